//! A line of the runtime API: words are what stands between spaces, and commands what stands between semicolons.

#![no_main]

use lb::admin::commands;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let found = commands(line);
    if line.contains('\\') {
        // Written once more with every special character escaped, it says the same.
        let escaped = |word: &String| word.chars().flat_map(|letter| ['\\', letter]).collect::<String>();
        let written: Vec<_> =
            found.iter().map(|words| words.iter().map(escaped).collect::<Vec<_>>().join(" ")).collect();
        let again = commands(&written.join(";"));
        let full = |commands: &[Vec<String>]| -> Vec<Vec<String>> {
            commands.iter().map(|words| words.iter().filter(|word| !word.is_empty()).cloned().collect()).collect()
        };
        assert_eq!(full(&again), full(&found));
        return;
    }
    let expected: Vec<Vec<&str>> =
        line.split(';').map(|command| command.split([' ', '\t']).filter(|word| !word.is_empty()).collect()).collect();
    assert_eq!(found, expected);
});
