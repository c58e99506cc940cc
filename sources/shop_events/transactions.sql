-- A deletion has nothing but its key.
SELECT
  _row,
  coalesce(TransactionID, _key) AS transaction_id,
  coalesce(nullif(trim(OrderID), ''), TransactionID, _key) AS order_id,
  CustomerID        AS customer_id,
  ProductID         AS product_id,
  Date              AS date,
  Amount            AS amount,
  PaymentMethod     AS payment_method,
  TransactionStatus AS transaction_status,
  UpdatedAt         AS _sequence,
  _tombstone OR upper(trim(op)) <=> 'D' AS _deleted
FROM shop_event_transactions
