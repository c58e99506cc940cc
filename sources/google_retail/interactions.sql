-- Events have no id; their content makes one, so an event that is delivered twice counts once.
SELECT
  _row,
  sha2(to_json(struct(eventType, visitorId, eventTime, searchQuery, cartId, pageCategories, productDetails)), 256) AS interaction_id,
  visitorId AS customer_id,
  CASE
    WHEN eventType IN ('home-page-view', 'detail-page-view', 'category-page-view', 'shopping-cart-page-view', 'search') THEN 'view'
    ELSE eventType
  END AS interaction_type,
  eventTime AS timestamp,
  CASE WHEN eventType = 'search' THEN concat('/search?q=', url_encode(searchQuery)) END AS page,
  'website' AS source,
  to_json(struct(eventType, searchQuery, cartId)) AS metadata,
  coalesce(get_json_object(productDetails, '$.product.id'), get_json_object(productDetails, '$[0].product.id')) AS product_id
FROM google_retail_events
WHERE NOT eventType <=> 'purchase-complete'
