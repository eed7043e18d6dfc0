//! What of a directory is read, and when.

use std::fs;

use tacit_api::Problem;

use super::*;
use crate::engine::{Ask, Engine};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                       spec: {selector: {app: web}, ports: [{port: 80}]}\n";

fn objects(read: &DirectoryRead, name: &str) -> Option<usize> {
    let found = read.files.iter().find(|(path, _)| path.ends_with(name));
    found.map(|(_, parsed)| parsed.as_ref().map_or(0, |parsed| parsed.objects.len()))
}

#[test]
fn only_yaml_that_is_not_hidden_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, SERVICE).unwrap();
    };
    for name in [
        "a.yaml",
        "deep/er/b.yml",
        "c.txt",
        ".d.yaml",
        ".git/e.yaml",
        "f.yaml.swp",
    ] {
        write(name);
    }
    let read = read_all(dir.path());
    assert!(read.complete);
    assert_eq!(read.files.len(), 2, "{:?}", read.files.keys());
    assert_eq!(
        (objects(&read, "a.yaml"), objects(&read, "b.yml")),
        (Some(1), Some(1))
    );
}

#[test]
fn garbage_and_giants_are_errors_of_their_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good.yaml"), SERVICE).unwrap();
    fs::write(dir.path().join("binary.yaml"), [0x00, 0xff, 0xfe, 0x80]).unwrap();
    let giant = File::create(dir.path().join("giant.yaml")).unwrap();
    giant.set_len(50 << 20).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("broken.yaml")).unwrap();
    let read = read_all(dir.path());
    let problems = |name: &str| -> Vec<Problem> {
        let (_, parsed) = read
            .files
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .unwrap();
        parsed
            .iter()
            .flat_map(|parsed| &parsed.errors)
            .map(|error| error.problem)
            .collect()
    };
    assert_eq!(problems("good.yaml"), []);
    assert_eq!(problems("giant.yaml"), [Problem::TooLarge]);
    assert!(!problems("binary.yaml").is_empty());
    assert_eq!(objects(&read, "broken.yaml"), Some(0));
}

#[test]
fn a_directory_that_is_none_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = watch(&missing).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("-f"), "{error}");
}

#[tokio::test]
async fn changes_reach_the_engine_when_they_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let (watch, first) = watch(dir.path()).unwrap();
    assert!(first.files.is_empty());
    let (handle, mut asks) = Engine::queue();
    let watching = tokio::spawn(watch.run(handle));
    // Waits for the state that is expected; looks in between are allowed.
    let mut until = async |wanted: &dyn Fn(&DirectoryRead) -> bool| loop {
        let Some(Ask(Command::Directory(read))) = asks.recv().await else {
            panic!("no read")
        };
        if wanted(&read) {
            return;
        }
    };
    fs::write(dir.path().join("a.yaml"), SERVICE).unwrap();
    until(&|read| objects(read, "a.yaml") == Some(1)).await;
    fs::write(dir.path().join(".new"), SERVICE).unwrap();
    fs::rename(dir.path().join(".new"), dir.path().join("b.yaml")).unwrap();
    until(&|read| objects(read, "b.yaml") == Some(1)).await;
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::rename(dir.path().join("a.yaml"), dir.path().join("folder/a.yaml")).unwrap();
    until(&|read| read.complete && objects(read, "folder/a.yaml") == Some(1)).await;
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    until(&|read| read.complete && objects(read, "b.yaml").is_none()).await;
    watching.abort();
}
