SELECT
  _row,
  ProductID         AS product_id,
  Category          AS category,
  Price             AS price,
  StockAvailability AS stock_availability,
  UpdatedAt         AS _sequence,
  upper(trim(op)) <=> 'D' AS _deleted
FROM shop_products
