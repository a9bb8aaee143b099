use super::*;

/// A directory with a durable file, and its shadow beside it.
fn place() -> (tempfile::TempDir, PathBuf, Shadow) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("old"), "old").unwrap();
    let shadow = Shadow::begin(&root, &folder.path().join("shadow")).unwrap();
    (folder, root, shadow)
}

fn list(root: &Path) -> Vec<(String, String)> {
    let names = names_in(root).unwrap();
    names.into_keys().map(|name| (name.clone(), fs::read_to_string(root.join(name)).unwrap())).collect()
}

fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn what_was_not_noted_is_gone() {
    let (_folder, root, shadow) = place();
    fs::write(root.join("new"), "new").unwrap();
    fs::write(root.join("old"), "changed").unwrap();
    shadow.wreck().unwrap().leave(Luck::None, &root).unwrap();
    assert_eq!(list(&root), files(&[("old", "old")]));
}

#[test]
fn a_name_without_its_bytes_is_an_empty_file() {
    let (_folder, root, shadow) = place();
    fs::write(root.join("named"), "bytes").unwrap();
    shadow.note_names(&root).unwrap();
    fs::write(root.join("nameless"), "bytes").unwrap();
    shadow.note_content(&root.join("nameless")).unwrap();
    shadow.wreck().unwrap().leave(Luck::None, &root).unwrap();
    assert_eq!(list(&root), files(&[("named", ""), ("old", "old")]));
}

#[test]
fn two_names_of_one_file_stay_so_and_a_number_given_again_is_another_file() {
    let (_folder, root, shadow) = place();
    fs::hard_link(root.join("old"), root.join("also")).unwrap();
    shadow.note_names(&root).unwrap();
    fs::remove_file(root.join("old")).unwrap();
    fs::remove_file(root.join("also")).unwrap();
    fs::write(root.join("other"), "other").unwrap();
    shadow.note_content(&root.join("other")).unwrap();
    let wreck = shadow.wreck().unwrap();
    wreck.leave(Luck::None, &root).unwrap();
    assert_eq!(list(&root), files(&[("also", "old"), ("old", "old")]));
    let names = names_in(&root).unwrap();
    assert_eq!(names.get("also"), names.get("old"));
}

#[test]
fn a_directory_is_reached_by_its_durable_name_alone() {
    let (_folder, root, shadow) = place();
    let made = root.join("made");
    fs::create_dir(&made).unwrap();
    fs::write(made.join("file"), "x").unwrap();
    shadow.note_content(&made.join("file")).unwrap();
    shadow.note_names(&made).unwrap();
    let unnamed = shadow.wreck().unwrap();
    shadow.note_names(&root).unwrap();
    shadow.note_rename(&made, &root.join("renamed")).unwrap();
    fs::rename(&made, root.join("renamed")).unwrap();
    let named = shadow.wreck().unwrap();
    unnamed.leave(Luck::None, &root).unwrap();
    assert_eq!(list(&root), files(&[("old", "old")]));
    named.leave(Luck::None, &root).unwrap();
    assert_eq!(list(&root.join("made")), files(&[("file", "x")]));
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        named.leave(Luck::Coins(seed), &root).unwrap();
        seen.insert(names_in(&root).unwrap().into_keys().collect::<Vec<_>>());
    }
    // A rename is one step: never both names, never none.
    let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    assert_eq!(seen, BTreeSet::from([names(["made", "old"]), names(["old", "renamed"])]));
}

#[test]
fn of_what_was_not_noted_each_name_and_each_sector_may_survive() {
    let (_folder, root, shadow) = place();
    fs::write(root.join("new"), vec![b'n'; 3 * SECTOR_BYTES]).unwrap();
    fs::remove_file(root.join("old")).unwrap();
    let wreck = shadow.wreck().unwrap();
    let (mut names, mut contents) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..200 {
        wreck.leave(Luck::Coins(seed), &root).unwrap();
        names.insert(names_in(&root).unwrap().into_keys().collect::<Vec<_>>());
        contents.extend(fs::read(root.join("new")));
    }
    assert_eq!(names.len(), 4, "{names:?}");
    // Empty, or of its length with each of its three sectors there or not.
    assert_eq!(contents.len(), 1 + 8);
}
