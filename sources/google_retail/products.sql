-- Stock is the quantity of what is available; any availability but the two known ones is passed on,
-- so that the contract rejects it.
SELECT
  _row,
  id AS product_id,
  get_json_object(categories, '$[0]') AS category,
  CASE
    WHEN json_object_keys(priceInfo) IS NULL THEN computed(NULL, array(priceInfo))
    ELSE get_json_object(priceInfo, '$.price')
  END AS price,
  CASE availability
    WHEN 'OUT_OF_STOCK' THEN '0'
    WHEN 'IN_STOCK' THEN availableQuantity
    ELSE availability
  END AS stock_availability
FROM google_retail_products
