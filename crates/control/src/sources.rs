//! The watched directory: reads YAML files, and those that change again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tacit_api::{Parsed, Position, Problem, SyntaxError};
use tokio::sync::mpsc;

use crate::engine::{Command, DirectoryRead, Handle};
use crate::error::ControlError;

/// Files of one directory tree: a mesh of ten thousand objects, one in each.
const MAX_FILES: usize = 20_000;
/// Folders below each other; a deeper one is a mistake or a loop of links.
const MAX_DEPTH: usize = 16;
/// Events that wait; when more come, everything is read anew.
const EVENTS: usize = 256;

/// A change of the directory.
enum Event {
    /// Something that only a new look at everything shows.
    Everything,
    /// One file was written to its end.
    Written(PathBuf),
}

/// Watches until it is dropped.
pub(crate) struct Watch {
    directory: PathBuf,
    events: mpsc::Receiver<Event>,
    _watcher: RecommendedWatcher,
}

/// Begins to watch, then reads everything, so that no change in between is missed.
pub(crate) fn watch(directory: &Path) -> Result<(Watch, DirectoryRead), ControlError> {
    let failed = |error: String| ControlError::Directory {
        path: directory.to_path_buf(),
        error,
    };
    if !directory.is_dir() {
        return Err(failed("it is not a directory".into()));
    }
    std::fs::read_dir(directory).map_err(|error| failed(error.to_string()))?;
    let (sender, events) = mpsc::channel(EVENTS);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        for event in translate(event) {
            // A full queue ends with a look at everything: the receiver sees that it was full.
            let _ = sender.try_send(event);
        }
    })
    .map_err(|error| failed(error.to_string()))?;
    watcher
        .watch(directory, RecursiveMode::Recursive)
        .map_err(|error| failed(error.to_string()))?;
    let read = read_all(directory);
    let watch = Watch {
        directory: directory.to_path_buf(),
        events,
        _watcher: watcher,
    };
    Ok((watch, read))
}

impl Watch {
    /// Tells the engine of each change, for ever.
    pub(crate) async fn run(mut self, engine: Handle) -> ControlError {
        while let Some(first) = self.events.recv().await {
            let full = self.events.capacity() == 0;
            let mut written = BTreeSet::new();
            let mut everything = full;
            let mut next = Some(first);
            while let Some(event) = next {
                match event {
                    Event::Everything => everything = true,
                    Event::Written(path) => drop(written.insert(path)),
                }
                next = self.events.try_recv().ok();
            }
            let directory = self.directory.clone();
            let read = tokio::task::spawn_blocking(move || {
                if everything {
                    read_all(&directory)
                } else {
                    read_some(&written)
                }
            });
            match read.await {
                Ok(read) => engine.tell(Command::Directory(read)).await,
                Err(error) => return stopped(error.to_string()),
            }
        }
        stopped("the system gives no more events".into())
    }
}

fn stopped(why: String) -> ControlError {
    ControlError::Stopped {
        part: "the watch of the directory",
        why,
    }
}

/// A file counts as changed when it was closed or moved into place: what is half written is not
/// read.
fn translate(event: notify::Result<notify::Event>) -> Vec<Event> {
    let Ok(event) = event else {
        return vec![Event::Everything];
    };
    let quiet = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            return event
                .paths
                .into_iter()
                .map(|path| {
                    if is_yaml(&path) {
                        Event::Written(path)
                    } else {
                        Event::Everything
                    }
                })
                .collect();
        }
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => true,
        EventKind::Modify(ModifyKind::Metadata(_)) => true,
        // A new file is read when it is closed; a new folder or link is looked at.
        EventKind::Create(_) => event.paths.iter().all(|path| is_regular(path)),
        EventKind::Any | EventKind::Modify(_) | EventKind::Other | EventKind::Remove(_) => false,
    };
    if quiet {
        Vec::new()
    } else {
        vec![Event::Everything]
    }
}

fn is_regular(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn is_yaml(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml"))
}

/// Reads every YAML file below the directory.
pub(crate) fn read_all(directory: &Path) -> DirectoryRead {
    let mut paths = BTreeSet::new();
    let mut files = BTreeMap::new();
    collect(directory, 0, &mut paths, &mut files);
    for path in paths {
        files.insert(shown(&path), read(&path));
    }
    DirectoryRead {
        complete: true,
        files,
    }
}

fn read_some(paths: &BTreeSet<PathBuf>) -> DirectoryRead {
    let files = paths.iter().map(|path| (shown(path), read(path))).collect();
    DirectoryRead {
        complete: false,
        files,
    }
}

fn collect(
    folder: &Path,
    depth: usize,
    paths: &mut BTreeSet<PathBuf>,
    files: &mut BTreeMap<Arc<str>, Option<Parsed>>,
) {
    let mut complain = |message: String, fix: &str| {
        files.insert(shown(folder), Some(unreadable(folder, message, fix)));
    };
    if depth > MAX_DEPTH {
        return complain(format!("more than {MAX_DEPTH} folders deep"), "move it up");
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return complain(format!("cannot be read: {error}"), "let tacit read it"),
    };
    let mut folders = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if path.is_dir() && !hidden {
            folders.push(path);
        } else if is_yaml(&path) {
            if paths.len() >= MAX_FILES {
                return complain(format!("more than {MAX_FILES} files"), "join some of them");
            }
            paths.insert(path);
        }
    }
    for folder in folders {
        collect(&folder, depth + 1, paths, files);
    }
}

fn shown(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// `None`: there is no such file any more.
fn read(path: &Path) -> Option<Parsed> {
    match try_read(path) {
        Ok(bytes) => Some(tacit_api::parse_bytes(&shown(path), &bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(unreadable(
            path,
            format!("cannot be read: {error}"),
            "let tacit read it",
        )),
    }
}

/// One byte more than the parser takes is enough for it to say that the file is too large.
fn try_read(path: &Path) -> std::io::Result<Vec<u8>> {
    let limit = u64::try_from(tacit_api::parse::FILE_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, message: String, fix: &str) -> Parsed {
    let error = SyntaxError {
        problem: Problem::NotText,
        position: Position {
            file: shown(path),
            line: 1,
            column: 1,
        },
        field: String::new(),
        snippet: None,
        message,
        fix: fix.to_owned(),
        object: None,
    };
    Parsed {
        errors: vec![error],
        ..Parsed::default()
    }
}

#[cfg(test)]
mod tests;
