from ctcd_jax.data.validation import HeldOut, ValidationPool


def pool(limit, draws_and_sizes):
    pool = ValidationPool(limit)
    for number, (draw, size) in enumerate(draws_and_sizes):
        pool.offer(draw, HeldOut((0, 0, number), [f"{number}.{i}" for i in range(size)]))
    return pool


def test_everything_is_kept_below_the_limit_in_the_order_of_the_input():
    kept = pool(10, [(9, 3), (1, 3), (5, 4)])
    assert [document.place[2] for document in kept.documents()] == [0, 1, 2]
    assert kept.surplus == 0


def test_above_the_limit_the_smallest_draws_stay_whatever_the_order():
    documents = [(40, 5), (10, 5), (30, 5), (20, 5), (50, 5)]
    for order in (documents, documents[::-1]):
        kept = pool(10, order)
        draws = [order[document.place[2]][0] for document in kept.documents()]
        assert sorted(draws) == [10, 20]
        assert kept.surplus == 15


def test_the_last_document_is_cut_to_fit():
    kept = pool(8, [(1, 5), (2, 5), (3, 5)])
    assert [list(document.sentences) for document in kept.documents()] == [
        ["0.0", "0.1", "0.2", "0.3", "0.4"],
        ["1.0", "1.1", "1.2"],
    ]
    assert kept.surplus == 7
    assert [len(document.sentences) for document in pool(8, [(1, 30)]).documents()] == [8]
