-- OTTO publishes no amounts: the contract's default applies. Orders of one instant are one order.
WITH sessions AS (
  SELECT _row, session, from_json(events, 'array<struct<aid: string, ts: string, type: string>>') AS list FROM otto
),
events AS (
  SELECT _row, session, coalesce(size(list) = 0, false) AS empty, posexplode_outer(list) AS (position, event) FROM sessions
)
SELECT
  _row,
  session || '-' || position AS transaction_id,
  session || '-' || event.ts AS order_id,
  session AS customer_id,
  event.aid AS product_id,
  CASE WHEN try_cast(event.ts AS BIGINT) BETWEEN 0 AND 253402300799999 THEN CAST(timestamp_millis(CAST(event.ts AS BIGINT)) AS STRING) ELSE event.ts END AS date,
  CAST(NULL AS STRING) AS amount,
  'unknown' AS payment_method,
  'Completed' AS transaction_status
FROM events
WHERE event.type <=> 'orders'
