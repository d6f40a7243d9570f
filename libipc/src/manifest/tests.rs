//! What a manifest may say, and how the build is told that it may not.

use alloc::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn server(name: &str, calls: &[&str]) -> ServerEntry {
    ServerEntry {
        name: name.into(),
        package: None,
        frames: false,
        observes: false,
        watchdog_ms: 4000,
        vital: false,
        class: Class::Reissued,
        priority: 3_u8.saturating_sub(calls.len() as u8),
        heap_kib: 64,
        journal_kib: 0,
        snapshot_kib: 0,
        arena_kib: 0,
        dma_kib: 0,
        calls: calls.iter().map(|&name| name.into()).collect(),
        forwards: vec![],
        quotas: Quotas::default(),
        ports: vec![],
        irqs: vec![],
        pci: vec![PciId { vendor: 0x1af4, device: 0x1001 }],
    }
}

fn sample() -> Manifest {
    let mount = |at: &str, server: &str| Mount {
        at: at.into(),
        server: server.into(),
        source: None,
        flags: BTreeSet::from([MountFlag::Ro]),
    };
    Manifest {
        mounts: vec![mount("/", "ufs"), mount("/tmp", "ufs")],
        personality: Personality { linux: Fallback { default: vec!["vfs".into()] } },
        reproducers_kib: 0,
        images_kib: 0,
        servers: vec![
            server(ROOT, &[]),
            server("vfs", &["ufs", "blk"]),
            server("ufs", &["blk"]),
            server("blk", &[]),
        ],
    }
}

#[test]
fn a_sound_manifest_survives_the_archive() {
    let manifest = sample();
    manifest.check().unwrap();
    assert_eq!(decode::<Manifest>(&encode(&manifest).unwrap()), Ok(manifest));
}

#[test]
fn a_cycle_is_named_in_full() {
    let mut manifest = sample();
    manifest.servers[3].calls.push("vfs".into());
    let error = manifest.check().unwrap_err();
    assert_eq!(error.to_string(), "the order of calls has a cycle: blk -> vfs -> ufs -> blk");
    let mut selfish = sample();
    selfish.servers[2].calls.push("ufs".into());
    assert_eq!(selfish.check(), Err(ManifestError::Cycle(vec!["ufs".into(), "ufs".into()])));
}

#[test]
fn whoever_is_called_is_more_important_than_who_calls() {
    let mut manifest = sample();
    manifest.servers[3].priority = manifest.servers[2].priority;
    let error = manifest.check().unwrap_err();
    assert_eq!(error, ManifestError::Priority { caller: "ufs".into(), callee: "blk".into() });
    assert!(error.to_string().contains("`blk` must have the higher priority"));
}

#[test]
fn a_server_that_only_calls_into_a_cycle_is_not_part_of_it() {
    let mut manifest = sample();
    manifest.servers.push(server("above", &["ufs"]));
    manifest.servers[3].calls.push("ufs".into());
    let error = manifest.check().unwrap_err();
    assert_eq!(error, ManifestError::Cycle(vec!["ufs".into(), "blk".into(), "ufs".into()]));
}

#[test]
fn every_reference_must_name_a_server() {
    let unknown = |by: &str| Err(ManifestError::UnknownServer { by: by.into(), name: "nix".into() });
    let mut called = sample();
    called.servers[1].calls.push("nix".into());
    assert_eq!(called.check(), unknown("`vfs`"));
    let mut mounted = sample();
    mounted.mounts[1].server = "nix".into();
    assert_eq!(mounted.check(), unknown("the mount `/tmp`"));
    let mut fallback = sample();
    fallback.personality.linux.default.push("nix".into());
    assert_eq!(fallback.check(), unknown("the Linux personality"));
}

#[test]
fn names_are_given_once_and_root_is_there() {
    let mut twice = sample();
    twice.servers.push(server("blk", &[]));
    assert_eq!(twice.check(), Err(ManifestError::Duplicate("blk".into())));
    let mut headless = sample();
    headless.servers.remove(0);
    assert_eq!(headless.check(), Err(ManifestError::NoRoot));
}

#[test]
fn a_journal_belongs_to_a_journaled_server() {
    for (class, journal_kib, snapshot_kib, sound) in [
        (Class::Journaled, 64, 64, true),
        (Class::Journaled, 64, 0, false),
        (Class::Journaled, 0, 64, false),
        (Class::Reissued, 0, 0, true),
        (Class::Reissued, 64, 0, false),
    ] {
        let mut manifest = sample();
        manifest.servers[3] = ServerEntry { class, journal_kib, snapshot_kib, ..server("blk", &[]) };
        let expected = if sound { Ok(()) } else { Err(ManifestError::Journal("blk".into())) };
        assert_eq!(manifest.check(), expected);
    }
}

#[test]
fn a_quota_is_at_most_all_there_is() {
    for (sessions, sound) in [(0, true), (1000, true), (1001, false)] {
        let mut manifest = sample();
        manifest.servers[3].quotas = Quotas { sessions, ..Quotas::default() };
        let expected =
            if sound { Ok(()) } else { Err(ManifestError::Quota(manifest.servers[3].name.clone())) };
        assert_eq!(manifest.check(), expected);
    }
}

#[test]
fn mount_points_are_absolute_and_distinct_and_begin_with_the_root() {
    for at in ["tmp", "/tmp/", "/", "//tmp", ""] {
        let mut manifest = sample();
        manifest.mounts[1].at = at.into();
        assert_eq!(manifest.check(), Err(ManifestError::MountPoint(at.into())));
    }
    let mut rootless = sample();
    rootless.mounts.remove(0);
    assert_eq!(rootless.check(), Err(ManifestError::MountPoint("/tmp".into())));
}

#[test]
fn a_pci_identity_is_two_hexadecimal_numbers() {
    let id = PciId::try_from(String::from("1af4:10ff")).unwrap();
    assert_eq!(id, PciId { vendor: 0x1af4, device: 0x10ff });
    assert_eq!(String::from(id), "1af4:10ff");
    for text in ["1af4", "1af4:1001:2", "1af4:xyzw", "1af4:10010", "+af4:1001"] {
        assert!(PciId::try_from(String::from(text)).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn damaged_bytes_are_an_error_or_another_manifest(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(manifest) = decode::<Manifest>(&bytes) {
            let _ = manifest.check();
        }
    }

    #[test]
    fn a_random_order_of_calls_is_refused_exactly_when_it_has_a_cycle(
        edges in prop::collection::vec((0usize..6, 0usize..6), 0..12),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut manifest = sample();
        for (index, name) in names.iter().enumerate() {
            let calls: Vec<&str> = edges.iter().filter(|edge| edge.0 == index).map(|edge| names[edge.1]).collect();
            manifest.servers.push(server(name, &calls));
        }
        let mut reach = [[false; 6]; 6];
        edges.iter().for_each(|&(from, to)| reach[from][to] = true);
        for via in 0..6 {
            for from in 0..6 {
                for to in 0..6 {
                    reach[from][to] |= reach[from][via] && reach[via][to];
                }
            }
        }
        let cyclic = (0..6).any(|node| reach[node][node]);
        prop_assert_eq!(matches!(manifest.check(), Err(ManifestError::Cycle(_))), cyclic);
    }
}
