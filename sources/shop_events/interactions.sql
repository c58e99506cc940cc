-- The product is the metadata's, else the one the page's address names: /product/<id>.
SELECT
  _row,
  InteractionID   AS interaction_id,
  CustomerID      AS customer_id,
  InteractionType AS interaction_type,
  Timestamp       AS timestamp,
  Page            AS page,
  Source          AS source,
  Metadata        AS metadata,
  coalesce(
    nullif(trim(get_json_object(Metadata, '$.product_id')), ''),
    nullif(trim(get_json_object(Metadata, '$.ProductID')), ''),
    try_url_decode(nullif(regexp_extract(Page, '/product/([^/?#]+)', 1), ''))
  ) AS product_id
FROM shop_event_interactions
