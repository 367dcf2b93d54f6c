from benchmarks.record import Line, losses


def test_a_ratio_that_lost_more_than_a_tenth_is_told():
    before = [
        Line("fast", 10.0, "x", ">= 4"),
        Line("lean", 2.0, "x", "<= 4"),
        Line("free", 10.0, "x"),
        Line("time", 10.0, "s", "<= 20"),
        Line("kept", 10.0, "x", ">= 4"),
    ]
    after = [
        Line("fast", 8.9, "x", ">= 4"),
        Line("lean", 2.3, "x", "<= 4"),
        Line("free", 1.0, "x"),
        Line("time", 19.0, "s", "<= 20"),
        Line("kept", 9.1, "x", ">= 4"),
        Line("new", 1.0, "x", ">= 4"),
    ]
    assert losses(before, after) == ["fast: 8.9 x, recorded were 10 x", "lean: 2.3 x, recorded were 2 x"]
    assert losses([], after) == []
