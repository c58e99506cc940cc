-- Lines have no id of their own. One is made of the line's content and its number among identical
-- lines of the same file, so that the shop's repeated lines stay apart, and a file that is
-- delivered twice does not double them.
WITH contents AS (
  SELECT
    *,
    substring(sha2(to_json(struct(InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country)), 256), 1, 20) AS content,
    try_cast(Quantity AS INT) * try_cast(UnitPrice AS DECIMAL(18, 3)) AS exact_amount
  FROM online_retail
),
lines AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY content, _row.source.file, _row.bronze_batch ORDER BY _row.source.block, _row.source.row) AS copy
  FROM contents
)
SELECT
  _row,
  concat_ws('-', InvoiceNo, StockCode, content, copy) AS transaction_id,
  InvoiceNo AS order_id,
  regexp_replace(trim(CustomerID), '\\.0$', '') AS customer_id,
  StockCode AS product_id,
  InvoiceDate AS date,
  computed(round(exact_amount, 2), array(Quantity, UnitPrice)) AS amount,
  'unknown' AS payment_method,
  CASE WHEN InvoiceNo LIKE 'C%' THEN 'Cancelled' ELSE 'Completed' END AS transaction_status,
  InvoiceDate AS _sequence
FROM lines
