//! Damaged and truncated images: whatever is done to the bytes, every operation ends, stays on the disk, and
//! never panics.

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use common::{Format, make_image, small_tree};
use proptest::prelude::*;
use tempfile::TempDir;
use ufs::{
    Blocks, Error, Extent, FileType, Inode, InodeNumber, Miss, READ_MAX_BYTES, SECTOR_BYTES, Search, Volume,
};

/// An image in memory, which remembers what was read of it.
struct Image {
    bytes: Vec<u8>,
    read: RefCell<BTreeSet<Extent>>,
}

impl Image {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: RefCell::default() }
    }

    fn sectors(&self) -> u64 {
        self.bytes.len() as u64 / u64::from(SECTOR_BYTES)
    }
}

impl Blocks for Image {
    fn get(&self, extent: Extent) -> Result<&[u8], Miss> {
        self.read.borrow_mut().insert(extent);
        let start = extent.sector as usize * SECTOR_BYTES as usize;
        Ok(self.bytes.get(start..start + extent.bytes() as usize).expect("what is asked for is on the disk"))
    }
}

/// Use every operation on everything that can be reached, up to a limit that no sound image here comes near.
/// Gives the number of files that could be read to their ends.
fn exercise(image: &Image) -> Result<usize, Error> {
    let volume = Volume::mount(image, image.sectors())?;
    for group in 0..volume.groups() {
        let _ = volume.cylinder_group(image, group);
    }
    let _ = volume.statfs();
    let mut sound = 0;
    let mut seen = BTreeSet::from([InodeNumber::ROOT]);
    let mut ahead = vec![InodeNumber::ROOT];
    while let Some(number) = ahead.pop() {
        let Ok(inode) = volume.inode(image, number) else { continue };
        let outcome = match inode.kind {
            FileType::Directory => exercise_directory(image, &volume, &inode, |number| {
                if seen.len() < 500 && seen.insert(number) {
                    ahead.push(number);
                }
            }),
            FileType::Symlink => volume.read_link(image, &inode).map(drop),
            FileType::Regular => exercise_file(image, &volume, &inode),
            _ => Ok(()),
        };
        sound += usize::from(outcome.is_ok());
    }
    Ok(sound)
}

fn exercise_directory(
    image: &Image,
    volume: &Volume,
    directory: &Inode,
    mut found: impl FnMut(InodeNumber),
) -> Result<(), Error> {
    let _ = volume.read_dir(image, directory, directory.size / 2 + 1).map(Iterator::count);
    let _ = volume.lookup(image, directory, b"one", &mut Search::default());
    let mut cookie = Some(0);
    for _ in 0..500 {
        let Some(at) = cookie else { return Ok(()) };
        let entries = volume.read_dir(image, directory, at)?;
        cookie = entries.next_block();
        assert!(cookie.is_none_or(|next| next > at));
        for entry in entries {
            let entry = entry?;
            assert!((1..=255).contains(&entry.name.len()) && !entry.name.contains(&b'/'));
            found(entry.number);
        }
    }
    Ok(())
}

fn exercise_file(image: &Image, volume: &Volume, file: &Inode) -> Result<(), Error> {
    for offset in [0, 1, file.size / 2, file.size.saturating_sub(1), file.size, u64::MAX] {
        let _ = volume.block_map(image, file, offset)?;
        let pieces = volume.plan_read(image, file, offset, u64::MAX)?;
        let covered: u64 = pieces.iter().map(|piece| piece.bytes()).sum();
        assert_eq!(covered, file.size.saturating_sub(offset).min(READ_MAX_BYTES));
        for extent in pieces.into_iter().filter_map(|piece| piece.sectors()) {
            assert!(extent.0.end() <= image.sectors());
        }
    }
    Ok(())
}

/// A sound image, and where its metadata lies.
struct Sample {
    bytes: Vec<u8>,
    metadata: Vec<Extent>,
    files: usize,
}

/// The small tree in all four kinds of image, made once.
fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let temporary = TempDir::new().unwrap();
        let tree = temporary.path().join("tree");
        fs::create_dir(&tree).unwrap();
        small_tree(&tree);
        let images = Format::all(4096, 512).map(|format| make_image(&temporary, &tree, format));
        images.into_iter().map(|image| Sample::new(fs::read(image).unwrap())).collect()
    })
}

impl Sample {
    fn new(bytes: Vec<u8>) -> Self {
        let image = Image::new(bytes);
        let files = exercise(&image).unwrap();
        assert!(files > 40, "only {files} files could be read of a sound image");
        Self { metadata: image.read.into_inner().into_iter().collect(), bytes: image.bytes, files }
    }
}

/// A byte to change: in which of the metadata's extents, where in it, and to what.
fn damage() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, u8)> {
    let value = prop_oneof![Just(0), Just(0xff), Just(0x7f), Just(0x80), 1u8..16, any::<u8>()];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_metadata_never_leads_astray(kind in 0usize..4, changes in prop::collection::vec(damage(), 1..40)) {
        let sample = &samples()[kind];
        let mut bytes = sample.bytes.clone();
        for (extent, place, value) in changes {
            let extent = extent.get(&sample.metadata);
            let start = extent.sector as usize * SECTOR_BYTES as usize;
            bytes[start + place.index(extent.bytes() as usize)] = value;
        }
        let _ = exercise(&Image::new(bytes));
    }

    #[test]
    fn a_changed_superblock_never_leads_astray(
        kind in 0usize..4,
        changes in prop::collection::vec((0usize..1376, any::<u8>()), 1..4),
    ) {
        let mut bytes = samples()[kind].bytes.clone();
        for (place, value) in changes {
            bytes[8192 + place] = value;
        }
        let _ = exercise(&Image::new(bytes));
    }

    #[test]
    fn exchanged_blocks_never_lead_astray(
        kind in 0usize..4,
        exchanges in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..6),
    ) {
        let sample = &samples()[kind];
        let mut bytes = sample.bytes.clone();
        for pair in exchanges {
            let [from, to] = pair.map(|index| *index.get(&sample.metadata));
            let len = from.bytes().min(to.bytes()) as usize;
            let [from, to] = [from, to].map(|extent| extent.sector as usize * SECTOR_BYTES as usize);
            bytes.copy_within(from..from + len, to);
        }
        let _ = exercise(&Image::new(bytes));
    }

    #[test]
    fn a_truncated_image_is_refused(kind in 0usize..4, keep: prop::sample::Index) {
        let sample = &samples()[kind];
        let sectors = keep.index(sample.bytes.len() / SECTOR_BYTES as usize);
        let image = Image::new(sample.bytes[..sectors * SECTOR_BYTES as usize].to_vec());
        let refused = exercise(&image);
        prop_assert!(matches!(refused, Err(Error::NotUfs | Error::BadSuperblock(_))), "{refused:?}");
    }
}

#[test]
fn damage_to_one_directory_leaves_the_rest_readable() {
    for sample in samples() {
        let mut bytes = sample.bytes.clone();
        let name = b"level-5\0";
        let place = bytes.windows(name.len()).position(|window| window == name).unwrap();
        bytes[place] = b'/';
        let sound = exercise(&Image::new(bytes)).unwrap();
        assert!(sound < sample.files && sound > 30, "{sound} of {}", sample.files);
    }
}
