-- What examples/postgres-to-milvus.yaml reads:
--
--   psql "$SOURCE_URL" -f examples/data/documents.sql
CREATE TABLE documents (
    id bigint PRIMARY KEY,
    title text NOT NULL,
    embedding real[] NOT NULL,
    deleted boolean NOT NULL DEFAULT false,
    changed_by xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON documents (changed_by, id);

-- The default sets the cursor of new rows, the trigger that of changed ones.
CREATE FUNCTION set_documents_changed_by() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.changed_by := pg_current_xact_id(); RETURN NEW; END $$;
CREATE TRIGGER set_changed_by BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION set_documents_changed_by();

INSERT INTO documents (id, title, embedding)
SELECT g, 'document ' || g, ARRAY(SELECT ((g * 31 + n * 17) % 101)::real / 101 FROM generate_series(1, 8) n)
FROM generate_series(1, 500) g;
