//! Topics that are deleted and made anew under their names.

use hapax_protocol::position::Position;

use super::*;

/// A topic of which ten messages were read, deleted and made anew.
async fn read_and_made_anew(scene: &Scene) -> (String, SplitId, Kafka, Box<dyn SplitReader>, Position) {
    let topic = scene.topic("t", 1, &[]);
    let id = split(&topic, 0);
    write(scene, &topic, 0, 0..10);
    let source = open(scene, serde_json::json!({ "topic": topic })).await.unwrap();
    let mut reader = source.open(&id, None).await.unwrap();
    let read = rest(reader.as_mut()).await;
    assert_eq!(ids(&read), (0..10).collect::<Vec<_>>());
    scene.delete(&topic);
    scene.make(&topic, 1, &[]);
    let position = read.last().unwrap().through.clone();
    (topic, id, source, reader, position)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_the_same_name_stops() {
    let scene = Scene::new();
    let (topic, id, source, reader, position) = read_and_made_anew(&scene).await;
    drop((reader, source));
    write(&scene, &topic, 0, 0..3);
    let source = open(&scene, serde_json::json!({ "topic": topic })).await.unwrap();
    stops(source.open(&id, Some(&position)).await, codes::RECREATED);
    // The same messages again, as many and more: their times tell.
    write(&scene, &topic, 0, 3..20);
    let mut reader = source.open(&id, Some(&position)).await.unwrap();
    stops(reader.read(LIMIT).await, codes::RECREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_an_open_reader_stops_it() {
    let scene = Scene::new();
    let (topic, _, _source, mut reader, _) = read_and_made_anew(&scene).await;
    // Longer than the old one: the client would go on behind the tenth.
    write(&scene, &topic, 0, 0..30);
    let stopped = async {
        loop {
            match reader.read(LIMIT).await {
                Ok(Some(batch)) => assert_eq!(batch.records.num_rows(), 0, "of another topic"),
                Ok(None) => {
                    if let Err(error) = reader.more().await {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(120), stopped).await.unwrap();
    // That it was away in between may be what is heard first.
    let code = error.fault.code();
    assert!(code == codes::RECREATED || code == codes::NO_TOPIC, "{error}");
}
