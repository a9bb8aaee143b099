-- A table of orders for examples/mysql-to-postgres.yaml. The database says when a row was changed.
CREATE TABLE orders (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    customer VARCHAR(40) NOT NULL,
    amount DECIMAL(12, 2) NOT NULL,
    details JSON NULL,
    changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    INDEX (changed_at)
);

INSERT INTO orders (customer, amount, details)
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 500)
SELECT concat('customer ', i % 40), i * 1.25, concat('{"items": ', i % 7, '}') FROM n;
