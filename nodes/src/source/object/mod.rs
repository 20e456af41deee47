//! Models and adapters from object stores: S3 and what speaks its protocol, Google Cloud Storage,
//! Azure, and single files of web servers.
//!
//! A prefix is a folder: what may be loaded of it is listed, fetched and put into the cache as one
//! content, so that a store that changes in the middle is never half of two. What was there is
//! remembered by the store's names for contents; a later start lists, and fetches what is another.

mod connect;
mod download;
mod failure;
mod note;

pub(crate) use note::Object;

use super::{
    ObjectPlace, ObjectSettings, Problem, Progress, Service, Settings, blocking, digest, lock,
    select::{self, Wanted},
    store::Store,
};
use download::{Download, plain};
use failure::problem;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use note::{Note, Noted};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, path::Path as Location};
use schema::{LockedFile, LockedSource, place::is_inner_path};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// How many objects of a place are fetched at once.
const AT_ONCE: usize = 4;
/// How many objects lie below a place at most; a bucket of a whole company has more.
const MAX_OBJECTS: usize = 10_000;
/// How often a place is looked at anew because it changed while it was being fetched.
const LOOKS: u32 = 3;

/// Object stores.
pub(super) struct Objects {
    settings: ObjectSettings,
    store: Store,
    progress: Arc<dyn Progress>,
    offline: bool,
    /// One client a bucket: it keeps connections, and credentials that a service lent.
    clients: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

/// What a place holds, and the cache's copy of it if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    objects: Vec<Object>,
    cached: Option<PathBuf>,
}

impl Found {
    /// Changes whenever the objects do.
    pub(crate) fn stamp(&self) -> String {
        let lines = self.objects.iter();
        let lines = lines.map(|object| format!("{} {}\n", object.mark(), object.path));
        digest::of_text(&lines.collect::<String>())
    }
}

impl Objects {
    pub(super) fn new(settings: &Settings, store: Store, progress: Arc<dyn Progress>) -> Self {
        Self {
            settings: settings.objects.clone(),
            offline: settings.offline,
            store,
            progress,
            clients: Mutex::default(),
        }
    }

    /// The folder or file of a place, fetched where the cache does not have it as it is now. `pin` is
    /// the digest of a single file.
    pub(super) async fn fetch(
        &self,
        place: &ObjectPlace,
        pin: Option<&str>,
    ) -> Result<PathBuf, Problem> {
        if let Some(path) = pin.and_then(|pin| self.pinned(place, pin)) {
            return Ok(path);
        }
        for _ in 1..LOOKS {
            let found = self.look(place).await?;
            match self.bring(place, &found, pin).await {
                Err(problem @ Problem::Changed { .. }) => {
                    tracing::info!(%place, %problem, "looking at it again");
                }
                result => return result,
            }
        }
        let found = self.look(place).await?;
        self.bring(place, &found, pin).await
    }

    /// What there is at a place. What the cache has stands for it where the store is out of reach.
    pub(super) async fn look(&self, place: &ObjectPlace) -> Result<Found, Problem> {
        let note = Note::read(&self.store, &self.key(place));
        let remembered = |note: Note| Found {
            cached: Some(note.path(&self.store)),
            objects: note.objects.into_iter().map(|noted| noted.object).collect(),
        };
        if self.offline {
            let what = place.to_string();
            return note.map(remembered).ok_or(Problem::Offline { what });
        }
        let objects = match self.objects(place).await {
            Ok(objects) => objects,
            Err(problem @ Problem::Unreachable { .. }) => match note {
                Some(note) => {
                    tracing::warn!(%place, %problem, "using what the cache holds");
                    return Ok(remembered(note));
                }
                None => return Err(problem),
            },
            Err(problem) => return Err(problem),
        };
        let cached = note.filter(|note| note.is_of(&objects));
        Ok(Found {
            cached: cached.map(|note| note.path(&self.store)),
            objects,
        })
    }

    /// The folder or file of what was found at a place.
    pub(super) async fn bring(
        &self,
        place: &ObjectPlace,
        found: &Found,
        pin: Option<&str>,
    ) -> Result<PathBuf, Problem> {
        if let Some(path) = &found.cached {
            return Ok(path.clone());
        }
        let digests = |object: &Object| pin.filter(|_| select::is_weights(&object.path));
        self.complete(place, &found.objects, digests).await
    }

    /// The folder or file of a place as it was when it was locked.
    pub(super) async fn fetch_locked(
        &self,
        place: &ObjectPlace,
        locked: &LockedSource,
    ) -> Result<PathBuf, Problem> {
        let mut files: Vec<_> = locked.files.iter().collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let entries = files.iter().map(|file| (&*file.sha256, &*file.path));
        let (digest, inside) = content_of(&entries.collect::<Vec<_>>());
        let path = self.store.content(&digest, &inside);
        if path.exists() {
            return Ok(path);
        }
        if self.offline {
            let what = place.to_string();
            return Err(Problem::Offline { what });
        }
        let objects: Vec<_> = files.into_iter().map(locked_object).collect();
        let digests = |object: &Object| locked.file(&object.path).map(|file| &*file.sha256);
        let fetched = self.complete(place, &objects, digests).await;
        fetched.map_err(|problem| match problem {
            Problem::Changed { what } => Problem::Lock {
                file: what,
                reason: "is another one in the store now".to_owned(),
            },
            problem => problem,
        })
    }

    /// What was found where the lock says what is there, and the cache has it.
    pub(super) fn locked(&self, locked: &LockedSource, path: PathBuf) -> Result<Found, Problem> {
        lock::verify(&path, locked, &self.store)?;
        let files = locked.files.iter();
        let objects = files.map(|file| Object {
            etag: Some(file.sha256.clone()),
            ..locked_object(file)
        });
        Ok(Found {
            objects: objects.collect(),
            cached: Some(path),
        })
    }

    /// The files that a place gave, as a lock has them.
    pub(super) fn lock_files(&self, place: &ObjectPlace) -> Option<Vec<LockedFile>> {
        let note = Note::read(&self.store, &self.key(place))?;
        let files = note.objects.into_iter().map(|noted| LockedFile {
            path: noted.object.path,
            size: noted.object.size,
            sha256: noted.sha256,
            etag: noted.object.etag.filter(|_| !noted.object.weak),
            version: noted.object.version,
        });
        Some(files.collect())
    }

    /// The names of the folders in a place.
    pub(super) async fn folders(&self, place: &ObjectPlace) -> Result<Vec<String>, Problem> {
        if self.offline {
            let what = place.to_string();
            return Err(Problem::Offline { what });
        }
        let (store, prefix) = (self.client(place)?, location(place)?);
        let prefix = Some(prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let listed = store.list_with_delimiter(prefix.as_ref()).await;
        let listed = listed.map_err(|error| self.problem(&error, place, &place.to_string()))?;
        if listed.common_prefixes.len() > MAX_OBJECTS {
            return Err(too_many(place));
        }
        let names = listed.common_prefixes.iter();
        let names = names.filter_map(|path| Some(path.filename()?.to_owned()));
        Ok(names.collect())
    }

    /// Asks a store what there is at a place, and chooses what a model may consist of.
    async fn objects(&self, place: &ObjectPlace) -> Result<Vec<Object>, Problem> {
        let (store, location) = (self.client(place)?, location(place)?);
        let what = place.to_string();
        let failed = |error| self.problem(&error, place, &what);
        if !place.folder {
            let meta = store.head(&location).await.map_err(failed)?;
            let name = place.key.rsplit('/').next().unwrap_or(&place.key);
            let name = match place.service {
                Service::Https => location.filename().unwrap_or(name).to_owned(),
                _ => name.to_owned(),
            };
            return Ok(vec![object(name, &meta)]);
        }
        let prefix = Some(&location).filter(|prefix| !prefix.as_ref().is_empty());
        let below = prefix.map_or(String::new(), |prefix| format!("{prefix}/"));
        let mut objects = Vec::new();
        let mut listed = store.list(prefix);
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(failed)?;
            // The mark of an empty folder is the folder's own name.
            let Some(path) = meta.location.as_ref().strip_prefix(&below) else {
                continue;
            };
            if !is_inner_path(path) {
                return Err(Problem::damaged(
                    &what,
                    format!("it holds {path:?}, which no file can be named"),
                ));
            }
            objects.push(object(path.to_owned(), &meta));
            if objects.len() > MAX_OBJECTS {
                return Err(too_many(place));
            }
        }
        if objects.is_empty() {
            return Err(Problem::NotFound { what });
        }
        let names: Vec<String> = objects.iter().map(|object| object.path.clone()).collect();
        let wanted = Wanted {
            repo: &what,
            inside: None,
            naming: "at the end of the source",
        };
        let chosen: BTreeSet<String> = select::select(&names, wanted)?.into_iter().collect();
        objects.retain(|object| chosen.contains(&object.path));
        objects.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(objects)
    }

    /// Brings these objects into the cache, and notes them. `digests` are those that are known
    /// beforehand.
    async fn complete<'a>(
        &self,
        place: &ObjectPlace,
        objects: &[Object],
        digests: impl Fn(&Object) -> Option<&'a str>,
    ) -> Result<PathBuf, Problem> {
        let key = self.key(place);
        let lock = self.store.lock(&key).await?;
        let before = Note::read(&self.store, &key);
        if let Some(note) = before.as_ref().filter(|note| note.is_of(objects)) {
            // Another engine fetched it while this one waited.
            return Ok(note.path(&self.store));
        }
        let work = self.store.work(&key)?;
        let client = self.client(place)?;
        let mut parts: Vec<Part> = objects
            .iter()
            .map(|object| {
                let mark = digest::of_text(&format!("{} {}", object.path, object.mark()));
                let mut part = Part {
                    object: object.clone(),
                    path: work.join(mark),
                    have: None,
                    expected: digests(object).map(str::to_owned),
                };
                if let Some(note) = &before {
                    part.keep(note, &self.store);
                }
                part
            })
            .collect();
        let missing = parts.iter_mut().filter(|part| part.have.is_none());
        let downloads: Vec<BoxFuture<'_, _>> = missing
            .map(|part| self.part(&*client, place, part).boxed())
            .collect();
        stream::iter(downloads)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let store = self.store.clone();
        blocking(move || {
            let result = put_together(&store, &key, parts, &work);
            // Also after a failure: what is there is whole, and has a wrong digest.
            let _ = fs::remove_dir_all(&work);
            // Held by the work itself: it goes on if who waits for it gives up.
            drop(lock);
            result
        })
        .await
    }

    async fn part(
        &self,
        client: &dyn ObjectStore,
        place: &ObjectPlace,
        part: &mut Part,
    ) -> Result<(), Problem> {
        let location = match place.folder {
            true => location(&place.inside(&part.object.path))?,
            false => location(place)?,
        };
        let what = match place.folder {
            true => format!("{place}{}", part.object.path),
            false => place.to_string(),
        };
        let mut transfer = self.progress.start(&what, Some(part.object.size));
        let download = Download {
            store: client,
            place,
            location,
            object: &part.object,
            what,
            incomplete: part.path.clone(),
            signed: self.signed(place.service),
            pinned: part.expected.is_some(),
        };
        let version = download.run(&mut *transfer).await?;
        part.object.version = version;
        transfer.finish();
        Ok(())
    }

    /// What a digest vouches for and the cache has need not be asked for.
    fn pinned(&self, place: &ObjectPlace, pin: &str) -> Option<PathBuf> {
        let name = place.key.rsplit('/').next().filter(|_| !place.folder)?;
        let path = self.store.content(pin, name);
        path.exists().then_some(path)
    }

    fn client(&self, place: &ObjectPlace) -> Result<Arc<dyn ObjectStore>, Problem> {
        let query = place.query.as_ref().map_or("", |query| query.expose());
        let key = format!("{}://{}?{query}", place.service.scheme(), place.bucket);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        let client = connect::connect(place, &self.settings)?;
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// What a place is remembered by: a bucket of the same name elsewhere is another one.
    fn key(&self, place: &ObjectPlace) -> String {
        let endpoint = connect::endpoint(place.service, &self.settings).unwrap_or_default();
        let account = connect::account(place.service, &self.settings).unwrap_or_default();
        digest::of_text(&format!("{place}\n{endpoint}\n{account}"))
    }

    fn signed(&self, service: Service) -> bool {
        connect::is_signed(service, &self.settings)
    }

    fn problem(&self, error: &object_store::Error, place: &ObjectPlace, what: &str) -> Problem {
        problem(error, place, what, self.signed(place.service))
    }
}

/// An object on its way into the cache.
struct Part {
    object: Object,
    /// Where it is gathered.
    path: PathBuf,
    /// Where the cache has it already, and its digest.
    have: Option<(PathBuf, String)>,
    /// The digest that it must have.
    expected: Option<String>,
}

impl Part {
    /// Takes from the cache what did not change.
    fn keep(&mut self, note: &Note, store: &Store) {
        let Some(noted) = note.of(&self.object) else {
            return;
        };
        let path = match note.inside.is_empty() {
            true => note.path(store).join(&self.object.path),
            false => note.path(store),
        };
        if path.is_file() {
            // A listing does not say which version it is.
            self.object.version.clone_from(&noted.object.version);
            self.have = Some((path, noted.sha256.clone()));
        }
    }
}

/// Makes one content of the parts, and notes it.
fn put_together(
    store: &Store,
    key: &str,
    parts: Vec<Part>,
    work: &Path,
) -> Result<PathBuf, Problem> {
    let out = work.join("out");
    if out.exists() {
        fs::remove_dir_all(&out).map_err(Problem::disk("remove", &out))?;
    }
    let mut objects = Vec::new();
    for part in parts {
        let target = out.join(&part.object.path);
        let folder = target.parent().unwrap_or(&out);
        fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
        let sha256 = match part.have {
            Some((path, sha256)) => {
                fs::hard_link(&path, &target)
                    .or_else(|_| fs::copy(&path, &target).map(drop))
                    .map_err(Problem::disk("copy", &path))?;
                sha256
            }
            None => {
                let sha256 = digest::of_file(&part.path)?;
                fs::rename(&part.path, &target).map_err(Problem::disk("rename", &part.path))?;
                sha256
            }
        };
        if let Some(expected) = part.expected.filter(|expected| *expected != sha256) {
            return Err(Problem::Digest {
                file: part.object.path,
                expected,
                found: sha256,
            });
        }
        objects.push(Noted {
            object: part.object,
            sha256,
        });
    }
    let entries = objects.iter();
    let entries = entries.map(|noted| (&*noted.sha256, &*noted.object.path));
    let (digest, inside) = content_of(&entries.collect::<Vec<_>>());
    store.keep(&out, &digest, &inside)?;
    let note = Note {
        objects,
        digest,
        inside,
    };
    note.write(store, key)?;
    Ok(note.path(store))
}

/// Under which digest files are kept, given by their own digests and paths in the order of paths,
/// and which of them is meant: one file of weights stands for itself, others for their folder.
fn content_of(files: &[(&str, &str)]) -> (String, String) {
    match files {
        [(sha256, path)] if select::is_weights(path) => (sha256.to_string(), path.to_string()),
        files => {
            let list = files
                .iter()
                .map(|(sha256, path)| format!("{sha256} {path}\n"));
            (digest::of_text(&list.collect::<String>()), String::new())
        }
    }
}

fn locked_object(file: &LockedFile) -> Object {
    Object {
        path: file.path.clone(),
        size: file.size,
        etag: file.etag.clone(),
        weak: false,
        modified: 0,
        version: file.version.clone(),
    }
}

fn object(path: String, meta: &ObjectMeta) -> Object {
    let (etag, weak) = plain(meta.e_tag.as_deref());
    Object {
        path,
        size: meta.size,
        etag,
        weak,
        modified: meta.last_modified.timestamp().max(0),
        version: None,
    }
}

/// A place as its store's client names it.
fn location(place: &ObjectPlace) -> Result<Location, Problem> {
    let location = match place.service {
        Service::Https => Location::from_url_path(&place.key),
        _ => Location::parse(&place.key),
    };
    location.map_err(|error| Problem::Malformed {
        reason: format!("{place} is no path of objects: {error}"),
    })
}

fn too_many(place: &ObjectPlace) -> Problem {
    Problem::unsuitable(place.to_string(), "holds too many objects to be a model")
}
