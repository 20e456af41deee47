//! What a search sees: one committed state of an index, which never changes.

use super::{
    Filter, IndexError, Query, filter,
    fusion::{self, depth},
    json,
    log::Committed,
    record,
    text::{self, Fields},
    top::Top,
    vectors::{Among, Vectors},
};
use crate::Document;
use std::sync::Arc;
use tantivy::{
    DocAddress, DocId, Score, Searcher, SegmentReader, TantivyDocument,
    collector::{Collector, SegmentCollector},
    columnar::StrColumn,
    query::{BooleanQuery, ConstScoreQuery, EnableScoring, Occur, Query as TextQuery, Weight},
    schema::{IndexRecordOption, Term, Value as _},
};

/// No row, in a table from documents to rows.
const NONE: u32 = u32::MAX;

/// Where a filter leaves one row in so many, or more, all rows are scanned: reading memory in order is
/// faster than picking rows from it.
const DENSE: usize = 4;

/// One committed state.
pub(super) struct Snapshot {
    folder: std::path::PathBuf,
    fields: Fields,
    searcher: Searcher,
    vectors: Option<Vectors>,
    pub(super) committed: Committed,
    /// Each row's document; any where `marked` is false.
    documents: Vec<DocAddress>,
    /// Whether a row belongs to a document that is not deleted.
    marked: Vec<bool>,
    /// For each segment, each document's row.
    rows: Vec<Vec<u32>>,
    ids: Vec<StrColumn>,
}

/// How well a document fits, and where it is.
type Hit = (f64, DocAddress);

impl Snapshot {
    /// Joins what the text index knows with the vectors.
    pub(super) fn new(
        folder: &std::path::Path,
        fields: Fields,
        searcher: Searcher,
        vectors: Option<Vectors>,
        committed: Committed,
    ) -> Result<Self, IndexError> {
        let rows = vectors.as_ref().map_or(0, Vectors::rows);
        let mut snapshot = Self {
            folder: folder.to_owned(),
            fields,
            searcher,
            vectors,
            committed,
            documents: vec![DocAddress::new(0, 0); rows],
            marked: vec![false; rows],
            rows: Vec::new(),
            ids: Vec::new(),
        };
        for (ordinal, segment) in snapshot
            .searcher
            .clone()
            .segment_readers()
            .iter()
            .enumerate()
        {
            snapshot.join(ordinal as u32, segment)?;
        }
        Ok(snapshot)
    }

    fn join(&mut self, ordinal: u32, segment: &SegmentReader) -> Result<(), IndexError> {
        let failed = IndexError::text("read a column of the text index");
        let columns = segment.fast_fields();
        let columns = columns
            .str("id")
            .and_then(|ids| Ok((ids, columns.u64("vector")?)));
        let (ids, sequences) = columns.map_err(failed)?;
        let ids = ids.ok_or_else(|| self.damaged("a segment has no ids"))?;
        // The list of segments has no checksum, so what it says of a segment is compared.
        let held = [ids.ords().num_docs(), sequences.num_docs()];
        let alive = segment
            .alive_bitset()
            .map_or(segment.max_doc(), |alive| alive.num_alive_docs() as u32);
        if held != [segment.max_doc(); 2] || alive != segment.num_docs() {
            return Err(self.damaged("a segment holds more or fewer documents than is listed"));
        }
        let mut rows = vec![NONE; segment.max_doc() as usize];
        for doc in segment.doc_ids_alive() {
            let (Some(sequence), Some(vectors)) = (sequences.first(doc), &self.vectors) else {
                continue;
            };
            let row = vectors.row_of(sequence);
            let row = row.ok_or_else(|| self.damaged(format!("vector {sequence} is missing")))?;
            rows[doc as usize] = row;
            self.documents[row as usize] = DocAddress::new(ordinal, doc);
            self.marked[row as usize] = true;
        }
        self.rows.push(rows);
        self.ids.push(ids);
        Ok(())
    }

    pub(super) fn vectors(&self) -> Option<&Vectors> {
        self.vectors.as_ref()
    }

    /// Which rows belong to documents that are not deleted.
    pub(super) fn marked(&self) -> &[bool] {
        &self.marked
    }

    pub(super) fn documents(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// The digest of the document with this id.
    pub(super) fn digest(&self, id: &str) -> Result<Option<u64>, IndexError> {
        let failed = || IndexError::text("look a document up");
        let term = Term::from_field_text(self.fields.id, id);
        for segment in self.searcher.segment_readers() {
            let postings = segment.inverted_index(self.fields.id).map_err(failed())?;
            let postings = postings.read_postings(&term, IndexRecordOption::Basic);
            let postings = postings.map_err(|error| failed()(error.into()))?;
            let Some(mut postings) = postings else {
                continue;
            };
            let mut doc = tantivy::DocSet::doc(&postings);
            while doc != tantivy::TERMINATED {
                if !segment.is_deleted(doc) {
                    let digests = segment.fast_fields().u64("digest").map_err(failed())?;
                    return Ok(digests.first(doc));
                }
                doc = tantivy::DocSet::advance(&mut postings);
            }
        }
        Ok(None)
    }

    /// The ids of all documents.
    pub(super) fn all_ids(&self) -> Result<Vec<String>, IndexError> {
        let mut ids = Vec::with_capacity(self.documents() as usize);
        for (ordinal, segment) in self.searcher.segment_readers().iter().enumerate() {
            for doc in segment.doc_ids_alive() {
                ids.push(self.id(DocAddress::new(ordinal as u32, doc))?);
            }
        }
        Ok(ids)
    }

    /// The documents that fit best, best first; equal scores in the order of their ids.
    pub(super) fn search(&self, query: &Query<'_>) -> Result<Vec<Document>, IndexError> {
        let filter = query.filter.filter(|filter| !filter.is_empty());
        let hits = match (query.vector, query.text) {
            (None, None) => {
                let reason = "a search needs a vector, a text, or both";
                return Err(IndexError::invalid(reason));
            }
            (Some(vector), None) => self.nearest(vector, filter, query.top_k)?,
            (None, Some(text)) => self.matching(text, filter, query.top_k)?,
            (Some(vector), Some(text)) => {
                let depth = depth(query.top_k);
                let sides = [
                    self.nearest(vector, filter, depth)?,
                    self.matching(text, filter, depth)?,
                ];
                let ranked = sides.each_ref().map(|side| side.iter().map(|hit| hit.1));
                let fused = fusion::fuse(ranked).into_iter();
                let hits = fused.map(|(address, score)| (score, address));
                self.ordered(hits.collect(), query.top_k)?
            }
        };
        hits.into_iter().map(|hit| self.document(hit)).collect()
    }

    fn nearest(
        &self,
        vector: &[f32],
        filter: Option<&Filter>,
        keep: usize,
    ) -> Result<Vec<Hit>, IndexError> {
        let vectors = self.vectors.as_ref();
        let vectors = vectors.ok_or_else(|| IndexError::invalid("the index holds no vectors"))?;
        record::check_vector(vector, vectors.dimensions()).map_err(IndexError::invalid)?;
        let unit = record::unit(vector);
        let rows = filter.map(|filter| self.rows_of(filter)).transpose()?;
        let mut marked = Vec::new();
        let among = match &rows {
            None => Among::Marked(&self.marked),
            Some(rows) if rows.len() * DENSE < self.marked.len() => Among::Rows(rows),
            Some(rows) => {
                marked.resize(self.marked.len(), false);
                rows.iter().for_each(|row| marked[*row as usize] = true);
                Among::Marked(&marked)
            }
        };
        let best = vectors.nearest(&unit, among, keep)?;
        let hits = best
            .into_iter()
            .map(|(score, row)| (f64::from(score), self.documents[row as usize]));
        self.ordered(hits.collect(), keep)
    }

    fn matching(
        &self,
        text: &str,
        filter: Option<&Filter>,
        keep: usize,
    ) -> Result<Vec<Hit>, IndexError> {
        let index = self.searcher.index();
        let Some(mut query) = text::query(index, &self.fields, text)? else {
            return Ok(Vec::new());
        };
        if let Some(filter) = filter {
            let filter = ConstScoreQuery::new(filter::query(filter, &self.fields), 0.0);
            query = Box::new(BooleanQuery::new(vec![
                (Occur::Must, query),
                (Occur::Must, Box::new(filter)),
            ]));
        }
        let best = self.searcher.search(&*query, &Best(keep));
        let best = best.map_err(IndexError::text("search the text index"))?;
        let hits = best
            .into_iter()
            .map(|(score, address)| (f64::from(score), address));
        self.ordered(hits.collect(), keep)
    }

    /// The rows of the documents that satisfy a filter, in ascending order.
    fn rows_of(&self, filter: &Filter) -> Result<Vec<u32>, IndexError> {
        let failed = || IndexError::text("apply the filter");
        let scoring = EnableScoring::disabled_from_searcher(&self.searcher);
        let weight = filter::query(filter, &self.fields)
            .weight(scoring)
            .map_err(failed())?;
        let mut found = Vec::new();
        for (segment, rows) in self.searcher.segment_readers().iter().zip(&self.rows) {
            // Deleted documents have no row.
            let of = |doc: &DocId| rows[*doc as usize];
            let mut each =
                |docs: &[DocId]| found.extend(docs.iter().map(of).filter(|row| *row != NONE));
            weight
                .for_each_no_score(segment, &mut each)
                .map_err(failed())?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The best `keep`, best first, equal scores in the order of ids.
    fn ordered(&self, mut hits: Vec<Hit>, keep: usize) -> Result<Vec<Hit>, IndexError> {
        hits.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        let mut ordered = Vec::with_capacity(keep.min(hits.len()));
        for equal in hits.chunk_by(|one, other| one.0 == other.0) {
            match keep - ordered.len() {
                0 => break,
                _ if equal.len() == 1 => ordered.extend(equal),
                room => ordered.extend(self.first_by_id(equal, room)?),
            }
        }
        Ok(ordered)
    }

    /// The first `keep` of many hits, by id. Ids are dear to look up, and ties can be many; but
    /// within a segment ids are numbered in their order, so that few remain to be compared.
    fn first_by_id(&self, hits: &[Hit], keep: usize) -> Result<Vec<Hit>, IndexError> {
        let number = |hit: &Hit| {
            let ids = &self.ids[hit.1.segment_ord as usize];
            (hit.1.segment_ord, ids.term_ords(hit.1.doc_id).next())
        };
        let mut numbered: Vec<_> = hits.iter().map(|hit| (number(hit), *hit)).collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        let segments = numbered.chunk_by(|one, other| one.0.0 == other.0.0);
        let first = segments.flat_map(|segment| segment.iter().take(keep));
        let named = first.map(|(_, hit)| Ok((self.id(hit.1)?, *hit)));
        let mut named: Vec<_> = named.collect::<Result<_, IndexError>>()?;
        named.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(named.into_iter().take(keep).map(|(_, hit)| hit).collect())
    }

    fn id(&self, address: DocAddress) -> Result<String, IndexError> {
        let ids = &self.ids[address.segment_ord as usize];
        let mut id = String::new();
        let term = ids.term_ords(address.doc_id).next();
        let found = term.map(|term| ids.ord_to_str(term, &mut id)).transpose();
        match found {
            Ok(Some(true)) => Ok(id),
            Ok(_) => Err(self.damaged("a document has no id")),
            Err(error) => Err(IndexError::text("read an id")(error.into())),
        }
    }

    fn document(&self, (score, address): Hit) -> Result<Document, IndexError> {
        let stored: TantivyDocument = self
            .searcher
            .doc(address)
            .map_err(IndexError::text("read a document"))?;
        let text_of = |field| stored.get_first(field).and_then(|value| value.as_str());
        let [id, text] = [self.fields.id, self.fields.text].map(text_of);
        let metadata = text_of(self.fields.metadata).and_then(json::read_map);
        match (id, text, metadata) {
            (Some(id), Some(text), Some(metadata)) => Ok(Document {
                id: id.into(),
                text: text.into(),
                score,
                metadata: Arc::new(metadata),
            }),
            _ => Err(self.damaged("a document is not complete")),
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> IndexError {
        IndexError::damaged(&self.folder, reason)
    }
}

/// Collects the documents with the best scores and those that tie with the last of them.
struct Best(usize);

impl Collector for Best {
    type Fruit = Vec<(Score, DocAddress)>;
    type Child = BestOfSegment;

    fn for_segment(&self, ordinal: u32, _: &SegmentReader) -> tantivy::Result<BestOfSegment> {
        Ok(BestOfSegment {
            ordinal,
            top: Top::new(self.0),
        })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Self::Fruit>) -> tantivy::Result<Self::Fruit> {
        let mut top = Top::new(self.0);
        for (score, address) in segments.into_iter().flatten() {
            top.push(score, address);
        }
        Ok(top.into_vec())
    }

    /// Lets the text index skip what cannot be among the best, but for ties: a bound is compared
    /// with a little room, because it is summed up in another order than the score itself.
    fn collect_segment(
        &self,
        weight: &dyn Weight,
        ordinal: u32,
        segment: &SegmentReader,
    ) -> tantivy::Result<Self::Fruit> {
        let mut best = self.for_segment(ordinal, segment)?;
        let room = |threshold: Score| threshold - threshold.abs() * 1e-5;
        weight.for_each_pruning(Score::MIN, segment, &mut |doc, score| {
            if !segment.is_deleted(doc) {
                best.collect(doc, score);
            }
            room(best.top.threshold()).max(Score::MIN)
        })?;
        Ok(best.harvest())
    }
}

struct BestOfSegment {
    ordinal: u32,
    top: Top<DocAddress>,
}

impl SegmentCollector for BestOfSegment {
    type Fruit = Vec<(Score, DocAddress)>;

    fn collect(&mut self, doc: DocId, score: Score) {
        self.top.push(score, DocAddress::new(self.ordinal, doc));
    }

    fn harvest(self) -> Self::Fruit {
        self.top.into_vec()
    }
}
