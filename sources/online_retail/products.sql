-- The shop has no categories; the first two digits of the stock code are its catalogue range.
-- A line without a positive price (a gift, a correction) says nothing about the product.
SELECT
  _row,
  StockCode AS product_id,
  CASE WHEN StockCode RLIKE '^[0-9]{5}' THEN concat('range ', substring(StockCode, 1, 2)) ELSE 'service' END AS category,
  CASE
    WHEN try_cast(UnitPrice AS DECIMAL(18, 3)) IS NULL THEN UnitPrice
    ELSE CAST(round(try_cast(UnitPrice AS DECIMAL(18, 3)), 2) AS STRING)
  END AS price,
  CAST(NULL AS STRING) AS stock_availability,
  InvoiceDate AS _sequence
FROM online_retail
WHERE NOT coalesce(try_cast(UnitPrice AS DECIMAL(18, 3)) <= 0, false)
