//! The map in `src/lib.rs` is true: rooms import from lower floors only, and from neighbours only where it says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// More lines than this are two rooms.
const LONGEST_FILE: usize = 500;
/// Floors without clock, chance, tasks, files and sockets.
const PURE: [u8; 2] = [0, 1];
const DENIAL: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

#[derive(Debug, PartialEq, Eq)]
struct Room {
    floor: u8,
    uses: BTreeSet<String>,
}

type Map = BTreeMap<String, Room>;

/// Reads `//! FLOOR n  room  what it is (uses a, b)`; a room's words may go on over several lines.
fn read_map(text: &str) -> Map {
    let mut map = Map::new();
    let mut words = String::new();
    // From the last line to the first, so that a room is met after all of its words.
    for line in text.lines().rev().filter_map(|line| line.strip_prefix("//!")) {
        words = format!("{} {words}", line.trim());
        let Some(rest) = words.strip_prefix("FLOOR ") else { continue };
        let mut parts = rest.split_whitespace();
        let (floor, name) = (parts.next().unwrap(), parts.next().unwrap());
        let uses = words.split_once("(uses ").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(uses, _)| uses);
        let uses = uses.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let before = map.insert(name.to_owned(), Room { floor: floor.parse().unwrap(), uses });
        assert_eq!(before, None, "{name} is on the map twice");
        words.clear();
    }
    map
}

/// The rooms that a source text names: `crate::room::…`, `use crate::{room::…, other}`, and `super::room` where that many
/// steps lead out of the room. `depth` is 1 for the `mod.rs` of a room, 2 for its other files.
fn imports(text: &str, depth: usize, map: &Map) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let name_of = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (place, _) in code.match_indices("crate::") {
        let rest = &code[place + "crate::".len()..];
        match rest.trim_start().strip_prefix('{') {
            None => drop(found.insert(name_of(rest))),
            Some(group) => found.extend(branches(group).into_iter().map(name_of)),
        }
    }
    let out = "super::".repeat(depth);
    found.extend(code.match_indices(&out).map(|(place, _)| name_of(&code[place + out.len()..])));
    found.retain(|name| map.contains_key(name));
    found
}

/// The parts of a `{…}` group, split at its own commas.
fn branches(group: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut level) = (Vec::new(), 0, 1);
    for (place, letter) in group.char_indices() {
        match letter {
            '{' => level += 1,
            '}' => level -= 1,
            ',' if level == 1 => {
                parts.push(&group[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
        if level == 0 {
            parts.push(&group[begin..place]);
            break;
        }
    }
    parts
}

/// What is wrong with a file of a room importing those.
fn bad_arrows(room: &str, imports: &BTreeSet<String>, map: &Map) -> Vec<String> {
    let Room { floor, uses } = &map[room];
    let mut bad = Vec::new();
    for other in imports.iter().filter(|&other| other != room) {
        let its = map[other].floor;
        if its > *floor {
            bad.push(format!("{room} (floor {floor}) imports {other} (floor {its}): the arrow runs up"));
        } else if its == *floor && !uses.contains(other) {
            bad.push(format!("{room} imports its neighbour {other}, and the map does not say so"));
        }
    }
    bad
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn the_map() -> Map {
    read_map(&fs::read_to_string(source().join("lib.rs")).unwrap())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Each room's imports, by file.
fn imports_of(room: &str, map: &Map) -> Vec<(PathBuf, BTreeSet<String>)> {
    let folder = source().join(room);
    let depth = |file: &Path| {
        let steps = file.strip_prefix(&folder).unwrap().components().count();
        if file.ends_with("mod.rs") { steps } else { steps + 1 }
    };
    let read = |file: PathBuf| {
        let found = imports(&fs::read_to_string(&file).unwrap(), depth(&file), map);
        (file, found)
    };
    files_below(&folder).into_iter().map(read).collect()
}

#[test]
fn rooms_import_from_lower_floors_and_from_the_neighbours_on_the_map() {
    let map = the_map();
    let mut bad = Vec::new();
    for room in map.keys() {
        for (file, found) in imports_of(room, &map) {
            bad.extend(bad_arrows(room, &found, &map).into_iter().map(|arrow| format!("{}: {arrow}", file.display())));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_neighbour_on_the_map_is_really_used() {
    let map = the_map();
    for (room, Room { uses, .. }) in &map {
        let used: BTreeSet<_> = imports_of(room, &map).into_iter().flat_map(|(_, found)| found).collect();
        assert!(uses.is_subset(&used), "the map says that {room} uses {uses:?}, and it imports {used:?}");
    }
}

#[test]
fn every_folder_is_on_the_map_and_every_room_is_a_folder() {
    let folders: BTreeSet<String> = fs::read_dir(source())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(folders, the_map().into_keys().collect());
}

#[test]
fn pure_rooms_deny_clocks_chance_tasks_files_and_sockets() {
    for (room, _) in the_map().iter().filter(|(_, room)| PURE.contains(&room.floor)) {
        let text = fs::read_to_string(source().join(room).join("mod.rs")).unwrap();
        assert!(text.contains(DENIAL), "src/{room}/mod.rs lacks {DENIAL}");
    }
}

#[test]
fn no_file_is_longer_than_a_room_should_be() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for file in files_below(&source()).into_iter().chain(files_below(&tests)) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", file.display());
    }
}

#[test]
fn a_bad_import_would_be_caught() {
    let map = read_map(
        "//! FLOOR 0  ground  the first of\n//!                  many\n//! FLOOR 1  left  (uses right)\n//! FLOOR 1  right\n//!",
    );
    assert_eq!(map.len(), 3);
    let caught = |room: &str, depth, text| bad_arrows(room, &imports(text, depth, &map), &map).len();
    assert_eq!(caught("ground", 2, "use crate::left::Thing;"), 1);
    assert_eq!(caught("ground", 2, "use crate::{\n    ground::{a, b},\n    left::{x, y::{z}},\n    right,\n};"), 2);
    assert_eq!(caught("ground", 2, "fn f() -> crate::right::T {}"), 1);
    assert_eq!(caught("right", 1, "use super::left::Thing;"), 1);
    assert_eq!(caught("right", 2, "use super::super::left::Thing;"), 1);
    assert_eq!(caught("right", 2, "use super::left::Thing; // a module of its own"), 0);
    assert_eq!(caught("left", 2, "use crate::{ground::G, right::R}; // crate::nothing"), 0);
}
