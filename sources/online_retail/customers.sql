-- A customer is whoever has bought: registered by the first order line, last active by the latest.
SELECT
  _row,
  regexp_replace(trim(CustomerID), '\\.0$', '') AS customer_id,
  CAST(NULL AS STRING) AS name,
  CAST(NULL AS STRING) AS email,
  InvoiceDate AS registration_date,
  'regular'   AS customer_type,
  Country     AS country,
  InvoiceDate AS last_active_date,
  InvoiceDate AS _sequence
FROM online_retail
WHERE nullif(trim(CustomerID), '') IS NOT NULL
