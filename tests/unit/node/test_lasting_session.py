from gridnode.node.lasting_session import step_cuts


def test_a_prompt_is_cut_into_chunks() -> None:
    assert step_cuts(0, 10, 10, 4) == [0, 4, 8, 10]


def test_a_new_token_is_one_step() -> None:
    assert step_cuts(10, 11, 10, 4) == [10, 11]


def test_a_replay_has_the_steps_of_the_first_time() -> None:
    first_time = [*step_cuts(0, 6, 6, 4)[:-1], *(step_cuts(n, n + 1, 6, 4)[0] for n in range(6, 9)), 9]
    assert step_cuts(0, 9, 6, 4) == first_time == [0, 4, 6, 7, 8, 9]
