"""llama.cpp through its own functions, as llama-cpp-python binds them."""

import ctypes
import time

import llama_cpp
import numpy

# Positions of a sequence; sequences that are decoded together.
CONTEXT, SEQUENCES = 512, 16


class Llama:
    def __init__(self, path, threads):
        self.silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        began = time.perf_counter()
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = CONTEXT * SEQUENCES
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_seq_max = SEQUENCES
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.load_seconds = time.perf_counter() - began
        self.memory = llama_cpp.llama_get_memory(self.context)
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)

    def step(self, rows):
        """Computes rows of (token, position, sequence, whether its logits are wanted); gives the
        likeliest next tokens."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama.cpp failed to decode")
        next_tokens = []
        for index, row in enumerate(rows):
            if row[3]:
                logits = llama_cpp.llama_get_logits_ith(self.context, index)
                logits = numpy.ctypeslib.as_array(logits, shape=(self.vocabulary,))
                next_tokens.append(int(logits.argmax()))
        return next_tokens

    def read(self, tokens, sequence):
        last = len(tokens) - 1
        rows = [(token, place, sequence, place == last) for place, token in enumerate(tokens)]
        return self.step(rows)[0]

    def prefill(self, tokens):
        llama_cpp.llama_memory_clear(self.memory, True)
        began = time.perf_counter()
        self.read(tokens, 0)
        return time.perf_counter() - began

    def decode(self, contexts, steps):
        """Texts of which each has read a context; all are as long."""
        llama_cpp.llama_memory_clear(self.memory, True)
        tokens = [self.read(context, sequence) for sequence, context in enumerate(contexts)]
        began = time.perf_counter()
        for step in range(steps):
            position = len(contexts[0]) + step
            rows = [(token, position, sequence, True) for sequence, token in enumerate(tokens)]
            tokens = self.step(rows)
        return time.perf_counter() - began
