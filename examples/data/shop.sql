-- What examples/postgres-to-postgres.yaml and examples/marked-outbox.yaml read:
--
--   psql "$SOURCE_URL" -f examples/data/shop.sql
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer text NOT NULL,
    amount numeric(12,2),
    tags text[],
    details jsonb,
    changed_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON orders (changed_by, id);

-- The default sets the cursor of new rows, the trigger that of changed ones.
CREATE FUNCTION set_changed_by() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.changed_by := pg_current_xact_id(); RETURN NEW; END $$;
CREATE TRIGGER set_changed_by BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION set_changed_by();

INSERT INTO orders (id, customer, amount, tags, details)
SELECT g, 'customer ' || g % 40, g * 1.10, ARRAY['web', 'order ' || g], jsonb_build_object('lines', g % 7)
FROM generate_series(1, 500) g;

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    payload jsonb NOT NULL,
    processed_at timestamptz
);
-- Only what waits is in it, so that it stays small.
CREATE INDEX ON outbox (id) WHERE processed_at IS NULL;

INSERT INTO outbox (topic, payload)
SELECT 'order.placed', jsonb_build_object('order', g) FROM generate_series(1, 300) g;
