SELECT
  _row,
  CustomerID       AS customer_id,
  Name             AS name,
  Email            AS email,
  RegistrationDate AS registration_date,
  CustomerType     AS customer_type,
  Country          AS country,
  LastActiveDate   AS last_active_date,
  UpdatedAt        AS _sequence,
  upper(trim(op)) <=> 'D' AS _deleted
FROM shop_customers
