"""A query rewriter as it is written for Ray Serve; the graph runs it as it is."""

import json
import logging
import pathlib

from ray import serve

log = logging.getLogger("rewrite")


@serve.deployment(num_replicas=2)
class QueryRewriter:
    """Puts the words that the notes use in the place of those that people use."""

    def __init__(self, words="words.json"):
        self.words = json.loads(pathlib.Path(words).read_text())
        log.info("knows %d words", len(self.words))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.002)
    async def rewrite(self, queries):
        return [" ".join(self.words.get(word, word) for word in query.lower().split()) for query in queries]

    async def __call__(self, query):
        return await self.rewrite(query)


def headline(found, limit=60):
    """A line for each note, cut to a length."""
    return [f"{note['id']}: {note['text'][:limit].strip()}" for note in found]
