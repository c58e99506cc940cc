-- An event has no id; its session and its place in it make one. Orders are transactions. A session
-- whose events cannot be read stays one row, for the contract to reject; one without events is none.
WITH sessions AS (
  SELECT _row, session, from_json(events, 'array<struct<aid: string, ts: string, type: string>>') AS list FROM otto
),
events AS (
  SELECT _row, session, coalesce(size(list) = 0, false) AS empty, posexplode_outer(list) AS (position, event) FROM sessions
)
SELECT
  _row,
  session || '-' || position AS interaction_id,
  session AS customer_id,
  CASE event.type WHEN 'clicks' THEN 'click' WHEN 'carts' THEN 'add-to-cart' ELSE event.type END AS interaction_type,
  CASE WHEN try_cast(event.ts AS BIGINT) BETWEEN 0 AND 253402300799999 THEN CAST(timestamp_millis(CAST(event.ts AS BIGINT)) AS STRING) ELSE event.ts END AS timestamp,
  CAST(NULL AS STRING) AS page,
  'website' AS source,
  CAST(NULL AS STRING) AS metadata,
  event.aid AS product_id
FROM events
WHERE NOT event.type <=> 'orders' AND NOT empty
