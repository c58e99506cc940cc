SELECT
  _row,
  TransactionID     AS transaction_id,
  coalesce(nullif(trim(OrderID), ''), TransactionID) AS order_id,
  CustomerID        AS customer_id,
  ProductID         AS product_id,
  Date              AS date,
  Amount            AS amount,
  PaymentMethod     AS payment_method,
  TransactionStatus AS transaction_status,
  UpdatedAt         AS _sequence,
  upper(trim(op)) <=> 'D' AS _deleted
FROM shop_transactions
