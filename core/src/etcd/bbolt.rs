//! Reads a bbolt database (`go.etcd.io/bbolt` `internal/common/{meta,page}.go`) page by page, newest
//! key first, in bounded memory. Every number in the file is doubted: what a damaged or hostile file
//! gets is an error that names the page.
//!
//! ```text
//! page      id u64 | flags u16 | count u16 | overflow u32 | elements ...
//! meta      magic u32 | version u32 | page size u32 | flags u32 | root u64, sequence u64
//!           | freelist u64 | high water u64 | txid u64 | FNV-1a of all that
//! branch    position u32 | key size u32 | page u64
//! leaf      flags u32 | position u32 | key size u32 | value size u32
//! bucket    root page u64 | sequence u64 | an inline page, where the root page is 0
//! ```
//!
//! Numbers are little-endian; a position counts from its own element.

use std::io;
use std::ops::{ControlFlow, Range};

/// A file that can be read at any place.
pub trait ReadAt {
    /// Fills the buffer from `offset` on, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Bytes in all.
    fn size(&self) -> u64;
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        (**self).size()
    }
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file ends early, or the disk fails.
    #[error("page {page} cannot be read: {source}")]
    Read {
        /// Which page.
        page: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Neither of the two meta pages is whole: another kind of file, or a damaged one.
    #[error("it is no bbolt database: neither of its two meta pages is whole")]
    NoMeta,
    /// A page says what cannot be.
    #[error("page {page} is damaged: {what}")]
    Damaged {
        /// Which page.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

const HEADER: usize = 16;
const ELEMENT: usize = 16;
const META: usize = 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const BRANCH_PAGE: u16 = 0x01;
const LEAF_PAGE: u16 = 0x02;
const BUCKET_LEAF: u32 = 0x01;

/// Deeper than any tree: with two keys a page, 64 levels hold more than there are atoms.
const MAX_DEPTH: usize = 64;
/// etcd refuses requests of more than 1.5 MiB unless told otherwise; a page holds little more than
/// one such value.
const MAX_PAGE_BYTES: u64 = 64 << 20;

/// A database, as its newest transaction left it.
#[derive(Debug)]
pub struct Database<R> {
    file: R,
    page_size: u64,
    root: u64,
    high_water: u64,
    /// The number of the transaction.
    pub transaction: u64,
    /// A bit a page: set once the page was visited. What is not set after all buckets were walked is
    /// free.
    visited: Vec<u64>,
}

/// An item of a bucket.
struct Item {
    key: Range<usize>,
    value: Range<usize>,
    is_bucket: bool,
}

/// What a visitor of a bucket is given.
pub type Visit<'v, B> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<B> + 'v;

/// The same, and told whether the value is that of a bucket.
type VisitAll<'v, B> = dyn FnMut(&[u8], &[u8], bool) -> ControlFlow<B> + 'v;

impl<R: ReadAt> Database<R> {
    /// Reads the meta pages, of which the newer whole one counts.
    pub fn open(file: R) -> Result<Self, Error> {
        // Only where the first one is damaged its size says nothing about where the second one is.
        let first = meta_at(&file, 0);
        let second = match &first {
            Some(first) => meta_at(&file, first.page_size),
            None => (9..=16)
                .filter_map(|shift| {
                    meta_at(&file, 1 << shift).filter(|it| it.page_size == 1 << shift)
                })
                .next(),
        };
        let metas = first.into_iter().chain(second);
        let meta = metas
            .max_by_key(|meta| meta.transaction)
            .ok_or(Error::NoMeta)?;
        let pages = file.size() / meta.page_size;
        if meta.high_water > pages {
            return Err(Error::Damaged {
                page: pages,
                what: "the file ends before it",
            });
        }
        let words = usize::try_from(meta.high_water / 64 + 1).map_err(|_| Error::NoMeta)?;
        let mut database = Self {
            file,
            page_size: meta.page_size,
            root: meta.root,
            high_water: meta.high_water,
            transaction: meta.transaction,
            visited: vec![0; words],
        };
        database.forget();
        Ok(database)
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The file itself.
    pub fn file(&self) -> &R {
        &self.file
    }

    /// Whether there is such a top-level bucket.
    pub fn has_bucket(&mut self, bucket: &[u8]) -> Result<bool, Error> {
        Ok(self.header_of(bucket)?.is_some())
    }

    /// Visits the items of a top-level bucket from the last key to the first, until the visitor
    /// breaks off. A page that comes up twice is damage.
    pub fn walk_backwards<B>(
        &mut self,
        bucket: &[u8],
        visit: &mut Visit<'_, B>,
    ) -> Result<ControlFlow<B>, Error> {
        let Some(header) = self.header_of(bucket)? else {
            return Ok(ControlFlow::Continue(()));
        };
        self.walk_bucket(self.root, &header, true, &mut |key, value, _| {
            visit(key, value)
        })
    }

    fn header_of(&mut self, bucket: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.forget();
        let _: ControlFlow<()> = self.walk(self.root, 0, true, &mut |key, value, is_bucket| {
            if key == bucket && is_bucket {
                found = Some(value.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn forget(&mut self) {
        self.visited.fill(0);
        self.visited[0] |= 0b11; // the meta pages
    }

    /// The bytes of the file that the database does not use: pages that no bucket leads to, and what
    /// is behind the last page.
    pub fn free_bytes(&mut self) -> Result<Vec<Range<u64>>, Error> {
        let mut free: Vec<Range<u64>> = Vec::new();
        let pages = self.free_pages()?.into_iter();
        let pages = pages.map(|page| page * self.page_size..(page + 1) * self.page_size);
        let behind = self.high_water * self.page_size..self.file.size();
        for bytes in pages.chain((!behind.is_empty()).then_some(behind)) {
            match free.last_mut() {
                Some(last) if last.end == bytes.start => last.end = bytes.end,
                _ => free.push(bytes),
            }
        }
        Ok(free)
    }

    /// Visits every bucket, so that what is left is free. Returns the numbers of the free pages.
    pub fn free_pages(&mut self) -> Result<Vec<u64>, Error> {
        self.forget();
        let mut buckets = Vec::new();
        let root = self.root;
        let _: ControlFlow<()> = self.walk(root, 0, false, &mut |_, value, is_bucket| {
            if is_bucket {
                buckets.push(value.to_vec());
            }
            ControlFlow::Continue(())
        })?;
        // etcd has no buckets in buckets.
        for header in buckets {
            let _: ControlFlow<()> = self.walk_bucket(root, &header, false, &mut |_, _, _| {
                ControlFlow::Continue(())
            })?;
        }
        let is_free = |page: &u64| self.visited[(page / 64) as usize] & (1 << (page % 64)) == 0;
        Ok((0..self.high_water).filter(is_free).collect())
    }

    fn walk_bucket<B>(
        &mut self,
        holder: u64,
        header: &[u8],
        values: bool,
        visit: &mut VisitAll<'_, B>,
    ) -> Result<ControlFlow<B>, Error> {
        let short = Error::Damaged {
            page: holder,
            what: "a bucket of it is cut off",
        };
        let Some((header, inline)) = header.split_at_checked(16) else {
            return Err(short);
        };
        match number(header, 0) {
            0 => visit_leaf(holder, inline, visit),
            root => self.walk(root, 0, values, visit),
        }
    }

    /// Depth first, from the last element to the first. `values` says whether leaves are of
    /// interest, or pages only.
    fn walk<B>(
        &mut self,
        page: u64,
        depth: usize,
        values: bool,
        visit: &mut VisitAll<'_, B>,
    ) -> Result<ControlFlow<B>, Error> {
        let damaged = |what| Error::Damaged { page, what };
        if depth == MAX_DEPTH {
            return Err(damaged("the tree is too deep"));
        }
        let bytes = self.read_page(page)?;
        match flags(&bytes) {
            LEAF_PAGE if !values && depth > 0 => Ok(ControlFlow::Continue(())),
            LEAF_PAGE => visit_leaf(page, &bytes, visit),
            BRANCH_PAGE => {
                let children =
                    children(&bytes).ok_or_else(|| damaged("its elements go beyond its end"))?;
                drop(bytes); // a path of the tree holds numbers only, not pages
                for child in children.into_iter().rev() {
                    if let ControlFlow::Break(value) = self.walk(child, depth + 1, values, visit)? {
                        return Ok(ControlFlow::Break(value));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            _ => Err(damaged("it is neither a branch nor a leaf")),
        }
    }

    /// Reads a page and those that it flows over into, and marks them as visited.
    fn read_page(&mut self, page: u64) -> Result<Vec<u8>, Error> {
        let damaged = |what| Error::Damaged { page, what };
        if page >= self.high_water {
            return Err(damaged("it lies beyond the end of the database"));
        }
        let offset = page * self.page_size; // both are bounded by the size of the file
        let read = |buffer: &mut [u8], offset| {
            self.file
                .read_exact_at(buffer, offset)
                .map_err(|source| Error::Read { page, source })
        };
        let mut bytes = vec![0; self.page_size as usize];
        read(&mut bytes, offset)?;
        if number(&bytes, 0) != page {
            return Err(damaged("it has another number"));
        }
        let overflow = u64::from(u32_at(&bytes, 12));
        let end = page + 1 + overflow;
        if end > self.high_water || (overflow + 1) * self.page_size > MAX_PAGE_BYTES {
            return Err(damaged("it is too long"));
        }
        if overflow > 0 {
            bytes.resize(((overflow + 1) * self.page_size) as usize, 0);
            let (first, rest) = bytes.split_at_mut(self.page_size as usize);
            debug_assert_eq!(first.len() as u64, self.page_size);
            read(rest, offset + self.page_size)?;
        }
        for page in page..end {
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            if self.visited[word] & bit != 0 {
                return Err(damaged("it is in use twice"));
            }
            self.visited[word] |= bit;
        }
        Ok(bytes)
    }
}

fn children(page: &[u8]) -> Option<Vec<u64>> {
    let elements = (0..count(page)).map(|index| {
        let element = HEADER + index * ELEMENT;
        page.get(element..element + ELEMENT)
            .map(|element| number(element, 8))
    });
    elements.collect()
}

fn visit_leaf<B>(
    page: u64,
    bytes: &[u8],
    visit: &mut VisitAll<'_, B>,
) -> Result<ControlFlow<B>, Error> {
    let damaged = |what| Error::Damaged { page, what };
    if bytes.len() < HEADER {
        return Err(damaged("it is cut off"));
    }
    let mut room = bytes.len();
    for index in (0..count(bytes)).rev() {
        let item = item(bytes, HEADER + index * ELEMENT)
            .ok_or_else(|| damaged("its elements go beyond its end"))?;
        // Elements that share their bytes could make much of little.
        room = (room.checked_sub(item.key.len() + item.value.len()))
            .ok_or_else(|| damaged("its elements overlap"))?;
        let (key, value) = (&bytes[item.key], &bytes[item.value]);
        if let ControlFlow::Break(value) = visit(key, value, item.is_bucket) {
            return Ok(ControlFlow::Break(value));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn item(bytes: &[u8], at: usize) -> Option<Item> {
    let element = bytes.get(at..at.checked_add(ELEMENT)?)?;
    let key = at.checked_add(u32_at(element, 4) as usize)?;
    let value = key.checked_add(u32_at(element, 8) as usize)?;
    let end = value.checked_add(u32_at(element, 12) as usize)?;
    (end <= bytes.len()).then_some(Item {
        key: key..value,
        value: value..end,
        is_bucket: u32_at(element, 0) & BUCKET_LEAF != 0,
    })
}

struct Meta {
    page_size: u64,
    root: u64,
    high_water: u64,
    transaction: u64,
}

fn meta_at(file: &impl ReadAt, offset: u64) -> Option<Meta> {
    let mut bytes = [0; HEADER + META];
    file.read_exact_at(&mut bytes, offset).ok()?;
    let meta = &bytes[HEADER..];
    let page_size = u64::from(u32_at(meta, 8));
    let whole = u32_at(meta, 0) == MAGIC
        && u32_at(meta, 4) == VERSION
        && number(meta, 56) == fnv(&meta[..56])
        && page_size.is_power_of_two()
        && (512..=1 << 16).contains(&page_size);
    whole.then(|| Meta {
        page_size,
        root: number(meta, 16),
        high_water: number(meta, 40),
        transaction: number(meta, 48),
    })
}

/// FNV-1a of 64 bits: a checksum against accidents.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn flags(page: &[u8]) -> u16 {
    u16::from_le_bytes([page[8], page[9]])
}

fn count(page: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([page[10], page[11]]))
}

/// Callers have made sure that the bytes are there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// Callers have made sure that the bytes are there.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 512;

    fn page(id: u64, flags: u16, count: u16, body: &[u8]) -> Vec<u8> {
        let mut page = [
            &id.to_le_bytes()[..],
            &flags.to_le_bytes(),
            &count.to_le_bytes(),
            &0_u32.to_le_bytes(),
            body,
        ]
        .concat();
        page.resize(PAGE, 0);
        page
    }

    fn meta(id: u64, root: u64, transaction: u64) -> Vec<u8> {
        let mut meta = Vec::new();
        for number in [MAGIC, VERSION, PAGE as u32, 0] {
            meta.extend(number.to_le_bytes());
        }
        for number in [root, 0, u64::MAX, 8, transaction] {
            meta.extend(number.to_le_bytes());
        }
        meta.extend(fnv(&meta).to_le_bytes());
        page(id, 0x04, 0, &meta)
    }

    fn leaf(id: u64, items: &[(&[u8], &[u8], u32)]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut data = Vec::new();
        for (index, (key, value, flags)) in items.iter().enumerate() {
            let position = (items.len() - index) * ELEMENT + data.len();
            for number in [
                *flags,
                position as u32,
                key.len() as u32,
                value.len() as u32,
            ] {
                body.extend(number.to_le_bytes());
            }
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        body.extend(data);
        page(id, LEAF_PAGE, items.len() as u16, &body)
    }

    fn branch(id: u64, children: &[u64]) -> Vec<u8> {
        let mut body = Vec::new();
        for child in children {
            body.extend([0; 8]);
            body.extend(child.to_le_bytes());
        }
        page(id, BRANCH_PAGE, children.len() as u16, &body)
    }

    fn bucket(root: u64) -> Vec<u8> {
        [root.to_le_bytes(), [0; 8]].concat()
    }

    /// Two leaves under a branch in the bucket `key`, an inline bucket, and one free page.
    fn database() -> Vec<u8> {
        let inline = [bucket(0), leaf(0, &[(b"x", b"y", 0)])].concat();
        [
            meta(0, 3, 7),
            meta(1, 7, 6),
            page(2, 0x10, 0, &[]),
            leaf(
                3,
                &[
                    (b"key", &bucket(4), BUCKET_LEAF),
                    (b"meta", &inline[..100], BUCKET_LEAF),
                ],
            ),
            branch(4, &[5, 6]),
            leaf(5, &[(b"a", b"1", 0), (b"b", b"2", 0)]),
            leaf(6, &[(b"c", b"3", 0)]),
            leaf(7, &[]),
        ]
        .concat()
    }

    fn keys(file: &[u8], name: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys = Vec::new();
        let mut database = Database::open(file)?;
        let _: ControlFlow<()> = database.walk_backwards(name, &mut |key, value| {
            keys.push([key, value].concat());
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    #[test]
    fn the_newest_key_comes_first() {
        assert_eq!(keys(&database(), b"key").unwrap(), [b"c3", b"b2", b"a1"]);
        assert_eq!(keys(&database(), b"meta").unwrap(), [b"xy"]);
        assert!(keys(&database(), b"absent").unwrap().is_empty());
    }

    #[test]
    fn the_newer_whole_meta_page_counts() {
        let mut file = database();
        file[HEADER + 20] ^= 1;
        // The older one has an empty root.
        assert!(keys(&file, b"key").unwrap().is_empty());
        file[PAGE + HEADER + 20] ^= 1;
        assert!(matches!(keys(&file, b"key"), Err(Error::NoMeta)));
    }

    #[test]
    fn what_no_bucket_uses_is_free() {
        let file = database();
        let mut database = Database::open(&file[..]).unwrap();
        assert_eq!(database.free_pages().unwrap(), [2, 7]);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_makes_it_panic_or_hang() {
        let file = database();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut file = file.clone();
                file[at] ^= 1 << bit;
                let _ = keys(&file, b"key");
                if let Ok(mut database) = Database::open(&file[..]) {
                    let _ = database.free_pages();
                }
            }
            let _ = keys(&file[..at], b"key");
        }
    }

    #[test]
    fn a_page_that_contains_itself_is_named() {
        let mut file = database();
        let branch = branch(4, &[5, 4]);
        file[4 * PAGE..5 * PAGE].copy_from_slice(&branch);
        let error = keys(&file, b"key").unwrap_err();
        assert_eq!(error.to_string(), "page 4 is damaged: it is in use twice");
    }
}
