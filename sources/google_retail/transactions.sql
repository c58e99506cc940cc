-- A purchase lists one product or several; its revenue belongs to the whole and is given to the first.
-- A purchase without a product stays one row, for the contract to reject.
WITH purchases AS (
  SELECT
    *,
    coalesce(
      from_json(productDetails, 'array<struct<product: struct<id: string>, quantity: string>>'),
      array(from_json(productDetails, 'struct<product: struct<id: string>, quantity: string>'))
    ) AS details,
    sha2(to_json(struct(visitorId, eventTime, cartId, productDetails, purchaseTransaction)), 256) AS purchase
  FROM google_retail_events
  WHERE eventType <=> 'purchase-complete'
),
lines AS (
  SELECT *, posexplode_outer(details) AS (position, detail) FROM purchases
)
SELECT
  _row,
  purchase || '-' || coalesce(position, 0) AS transaction_id,
  purchase AS order_id,
  visitorId AS customer_id,
  detail.product.id AS product_id,
  eventTime AS date,
  CASE
    WHEN coalesce(position, 0) > 0 THEN '0'
    -- In JSON without a revenue it is missing; in what is no JSON it cannot be read.
    WHEN json_object_keys(purchaseTransaction) IS NULL THEN computed(NULL, array(purchaseTransaction))
    ELSE get_json_object(purchaseTransaction, '$.revenue')
  END AS amount,
  'unknown' AS payment_method,
  'Completed' AS transaction_status
FROM lines
