use hapax_engine::sink::CoCommitSink;
use hapax_postgres::codes;
use hapax_postgres::config::{SinkConfig, Url, Write};

use crate::scene::{Scene, opened, people, ready, refused, shape, step, taken};

const PASSWORD: &str = "test";

/// A role of its own that may do nothing, and the configuration of a sink that connects as it.
async fn role(scene: &Scene, write: Write) -> (String, SinkConfig) {
    let name = format!("{}_role", scene.database.name());
    scene
        .sql(&format!(
            "DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}';
             REVOKE ALL ON DATABASE {} FROM PUBLIC; GRANT CONNECT ON DATABASE {} TO {name};
             REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO {name}",
            scene.database.name(),
            scene.database.name()
        ))
        .await;
    let url = Url::new(scene.database.url_as(&name, PASSWORD));
    (name, SinkConfig { url, table: "shop.t".into(), ..scene.config(write) })
}

async fn drop_role(scene: &Scene, name: &str) {
    scene.sql(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
}

async fn moves(sink: &std::sync::Arc<dyn CoCommitSink>, key: &[&str]) {
    let lease = ready(sink, &shape(key)).await;
    let (mut writer, _) = taken(sink, &lease).await;
    assert_eq!(writer.write(&people(&[(Some(1), Some("a"))])).await.unwrap(), []);
    writer.commit(&step(None, 1, 1)).await.unwrap();
}

/// What docs/connectors/postgres.md says is enough: once with the right to create, once with tables that are there.
#[tokio::test]
async fn a_role_of_least_privilege_is_enough() {
    let scene = Scene::new();
    let (name, config) = role(&scene, Write::Upsert).await;
    let (database, created) = (scene.database.name().to_owned(), opened(config.clone()).await);
    scene
        .sql(&format!(
            "GRANT CREATE ON SCHEMA shop TO {name}; GRANT TEMPORARY ON DATABASE {database} TO {name}"
        ))
        .await;
    moves(&created, &["id"]).await;
    let ours = "SELECT string_agg(format('ALTER TABLE %I.%I OWNER TO postgres', schemaname, tablename), ';') \
                FROM pg_tables WHERE schemaname = 'shop'";
    let take = scene.texts(ours).await.remove(0);
    scene
        .sql(&format!(
            "{take}; TRUNCATE shop.t, shop._hapax_positions; REVOKE CREATE ON SCHEMA shop FROM {name};
             GRANT SELECT, INSERT, UPDATE ON shop.t TO {name};
             GRANT SELECT, INSERT, UPDATE, DELETE ON shop._hapax_leases, shop._hapax_positions, shop._hapax_commits,
               shop._hapax_dead_letters, shop._hapax_settled_letters, shop._hapax_ledger TO {name}"
        ))
        .await;
    moves(&opened(config.clone()).await, &["id"]).await;
    // To append, less is enough.
    scene
        .sql(&format!(
            "TRUNCATE shop.t, shop._hapax_positions; REVOKE ALL ON shop.t FROM {name};
             GRANT INSERT ON shop.t TO {name}; REVOKE TEMPORARY ON DATABASE {database} FROM {name}"
        ))
        .await;
    moves(&opened(SinkConfig { write: Write::Append, ..config }).await, &["id"]).await;
    drop_role(&scene, &name).await;
}

#[tokio::test]
async fn each_privilege_that_is_missing_is_named_with_its_grant() {
    let scene = Scene::new();
    let (name, config) = role(&scene, Write::Upsert).await;
    let database = scene.database.name().to_owned();
    let mut grants = vec![
        format!("GRANT CREATE ON SCHEMA \"shop\" TO \"{name}\""),
        format!("GRANT TEMPORARY ON DATABASE \"{database}\" TO \"{name}\""),
    ];
    for grant in &grants {
        let (code, said) = refused(&scene, config.clone(), &shape(&["id"])).await;
        assert!(code == codes::DENIED && said.contains(grant.as_str()), "{said}");
        scene.sql(grant).await;
    }
    scene.sql("CREATE TABLE shop.t (id bigint PRIMARY KEY, name text)").await;
    grants = ["INSERT", "SELECT", "UPDATE"]
        .map(|privilege| format!("GRANT {privilege} ON \"shop\".\"t\" TO \"{name}\""))
        .to_vec();
    for grant in &grants {
        let (code, said) = refused(&scene, config.clone(), &shape(&["id"])).await;
        assert!(code == codes::DENIED && said.contains(grant.as_str()), "{said}");
        scene.sql(grant).await;
    }
    moves(&opened(config).await, &["id"]).await;
    drop_role(&scene, &name).await;
}
