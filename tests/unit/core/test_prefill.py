import math

from gridnode.core.prefill import MAX_CHUNK_TOKENS, suitable_chunk_tokens


def time_to_first_token(num_tokens: int, num_hops: int, chunk: int, *, step_tokens: int = 16) -> float:
    """Return it in the time of one token in one hop."""
    return (math.ceil(num_tokens / chunk) + num_hops - 1) * (chunk + step_tokens)


def test_one_hop_gets_the_longest_chunks() -> None:
    assert suitable_chunk_tokens(5000, 1) == MAX_CHUNK_TOKENS


def test_more_hops_and_shorter_prompts_get_shorter_chunks() -> None:
    assert suitable_chunk_tokens(1024, 8) < suitable_chunk_tokens(1024, 3) < MAX_CHUNK_TOKENS
    assert suitable_chunk_tokens(200, 3) < suitable_chunk_tokens(1024, 3) < suitable_chunk_tokens(8000, 3)


def test_chunks_are_within_a_tenth_of_the_best_there_are() -> None:
    for num_tokens in (100, 300, 1024, 4096):
        for num_hops in (2, 3, 8):
            found = time_to_first_token(num_tokens, num_hops, suitable_chunk_tokens(num_tokens, num_hops))
            best = min(time_to_first_token(num_tokens, num_hops, chunk) for chunk in range(32, 257, 16))
            assert found <= best * 1.1
