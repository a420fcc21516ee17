//! The embedded object, looked at without loading it: programs and maps are all there, and no others.

use std::collections::BTreeSet;

use lb_common::names;
use lb_userspace::datapath::load::OBJECT;

/// The machine number of BPF in an ELF header.
const EM_BPF: u64 = 247;
const FUNCTION: u64 = 2;
const DATA: u64 = 1;

/// What a 64-bit little-endian ELF file has.
struct Object {
    machine: u64,
    /// Name and content.
    sections: Vec<(String, &'static [u8])>,
    /// Name, type and section of global symbols.
    symbols: Vec<(String, u64, usize)>,
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn offset(bytes: &[u8], at: usize, length: usize) -> usize {
    usize::try_from(number(bytes, at, length)).expect("an offset in a file in memory")
}

fn text(bytes: &[u8], at: usize) -> String {
    let end = bytes[at..].iter().position(|byte| *byte == 0).expect("strings end");
    String::from_utf8(bytes[at..at + end].to_vec()).expect("names are text")
}

impl Object {
    /// Offsets are those of the ELF specification's 64-bit structures.
    fn read(file: &'static [u8]) -> Self {
        assert_eq!(file[..6], *b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
        let (table, size, count) = (offset(file, 0x28, 8), offset(file, 0x3a, 2), offset(file, 0x3c, 2));
        let headers: Vec<&[u8]> = (0..count).map(|index| &file[table + index * size..][..size]).collect();
        let content = |header: &[u8]| match number(header, 4, 4) {
            8 => &file[..0],
            _ => &file[offset(header, 0x18, 8)..][..offset(header, 0x20, 8)],
        };
        let names = content(headers[offset(file, 0x3e, 2)]);
        let sections: Vec<_> =
            headers.iter().map(|header| (text(names, offset(header, 0, 4)), content(header))).collect();
        let symbol_table = headers.iter().find(|header| number(header, 4, 4) == 2).expect("a symbol table");
        let strings = sections[offset(symbol_table, 0x28, 4)].1;
        let symbols = content(symbol_table)
            .chunks_exact(24)
            .filter(|symbol| symbol[4] >> 4 == 1)
            .map(|symbol| (text(strings, offset(symbol, 0, 4)), u64::from(symbol[4] & 15), offset(symbol, 6, 2)));
        Self { machine: number(file, 0x12, 2), symbols: symbols.collect(), sections }
    }

    fn section(&self, name: &str) -> &[u8] {
        self.sections.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no section {name}")).1
    }

    fn symbols(&self, kind: u64, section: &str) -> BTreeSet<&str> {
        let is_there = |index: usize| self.sections.get(index).is_some_and(|(name, _)| name == section);
        let symbols = self.symbols.iter().filter(|(_, other, index)| *other == kind && is_there(*index));
        symbols.map(|(name, ..)| name.as_str()).collect()
    }
}

#[test]
fn the_programs_are_there() {
    let object = Object::read(OBJECT);
    assert_eq!(object.machine, EM_BPF);
    let programs = [names::PROGRAM, names::PROGRAM_OPEN, names::CLOCK_PROGRAM, names::PASS_PROGRAM];
    assert_eq!(object.symbols(FUNCTION, "xdp"), programs.into());
}

#[test]
fn the_maps_are_there() {
    let object = Object::read(OBJECT);
    let own = [names::PROGRAMS, names::TEST_INPUTS, "ATTEMPT"];
    let maps: BTreeSet<&str> = names::PINNED.into_iter().chain(own).collect();
    assert_eq!(object.symbols(DATA, ".maps"), maps);
}

#[test]
fn the_kernel_gets_what_it_asks_for() {
    let object = Object::read(OBJECT);
    // Helpers that we use are for GPL programs only.
    assert!(object.section("license").ends_with(b"GPL\0"), "{:?}", object.section("license"));
    assert!(!object.section(".BTF").is_empty());
    assert!(object.symbols.iter().any(|(name, ..)| name == names::GLOBAL_TEST_MODE));
}

#[test]
fn test_mode_is_off_unless_turned_on() {
    assert!(
        Object::read(OBJECT).section(".rodata").iter().all(|byte| *byte == 0),
        "the loader's default would be test mode"
    );
}
