from gridnode.node.lasting_session import step_cuts


def test_a_prompt_runs_in_chunks() -> None:
    assert step_cuts(0, 10, 4, num_drafts=0) == [0, 4, 8, 10]


def test_a_new_token_is_a_step_and_so_is_it_with_its_drafts() -> None:
    assert step_cuts(10, 11, 4, num_drafts=0) == [10, 11]
    assert step_cuts(10, 11, 4, num_drafts=3) == [10, 14]


def test_a_replay_runs_in_chunks_and_leaves_drafts_a_step_of_their_own() -> None:
    assert step_cuts(0, 9, 4, num_drafts=0) == [0, 4, 8, 9]
    assert step_cuts(0, 9, 4, num_drafts=2) == [0, 4, 8, 11]
    assert step_cuts(0, 8, 4, num_drafts=2) == [0, 4, 7, 10]
