//! Reads the manifests of `boot/`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use libipc::manifest::Manifest;

use crate::house;

/// The whole system.
pub const SYSTEM: &str = "system.toml";
/// The kernel and its bench.
pub const BENCH: &str = "bench.toml";

/// A checked manifest of this repository.
pub fn load(name: &str) -> Result<Manifest> {
    let path = house::root().join("boot").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, &path)
}

fn parse(text: &str, path: &Path) -> Result<Manifest> {
    let manifest: Manifest =
        toml::from_str(text).with_context(|| format!("{} is not sound", path.display()))?;
    manifest.check().with_context(|| format!("{} is not sound", path.display()))?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use libipc::manifest::ServerEntry;

    use super::*;

    const SOUND: &str = r#"
        mounts = [{ at = "/", server = "ufs", source = "disk0", flags = ["ro"] }]
        [personality]
        linux = { default = ["ufs"] }
        [[server]]
        name = "root"
        class = "journaled"
        priority = 9
        heap_kib = 1
        journal_kib = 1
        snapshot_kib = 1
        [[server]]
        name = "ufs"
        class = "reissued"
        priority = 8
        heap_kib = 1
        calls = []
        pci = ["1af4:1001"]
        ports = [{ base = 0x3f8, len = 8 }]
    "#;

    fn error(text: &str) -> String {
        format!("{:#}", parse(text, Path::new("system.toml")).unwrap_err())
    }

    #[test]
    fn a_sound_manifest_is_read() {
        let manifest = parse(SOUND, Path::new("system.toml")).unwrap();
        assert_eq!(manifest.servers.len(), 2);
        assert_eq!(manifest.servers[1].ports[0].base, 0x3f8);
    }

    #[test]
    fn the_manifests_of_this_repository_are_sound() {
        assert!(load(SYSTEM).unwrap().server("procfs").is_some());
        assert_eq!(load(BENCH).unwrap().server("echo").map(ServerEntry::package), Some("bench"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(
            error(&SOUND.replace("dma_kib", "x").replace("heap_kib = 1\n", "heap_kb = 1\n"))
                .contains("heap_kb")
        );
        assert!(error(&SOUND.replace("len = 8", "length = 8")).contains("length"));
    }

    #[test]
    fn an_unknown_server_in_calls_is_named_with_its_caller() {
        let text = error(&SOUND.replace("calls = []", r#"calls = ["nix"]"#));
        assert!(text.contains("`ufs` names the server `nix`"), "{text}");
    }

    #[test]
    fn a_cycle_is_shown_as_a_path() {
        let text = error(&SOUND.replace("calls = []", r#"calls = ["ufs"]"#));
        assert!(text.contains("ufs -> ufs"), "{text}");
    }

    #[test]
    fn a_bad_pci_identity_or_class_is_quoted() {
        assert!(error(&SOUND.replace("1af4:1001", "virtio")).contains("`virtio`"));
        assert!(error(&SOUND.replace("reissued", "immortal")).contains("`immortal`"));
    }
}
