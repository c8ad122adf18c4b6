from bench.report import Taken, results, table


def test_the_ratio_is_that_of_the_medians_of_the_rounds() -> None:
    taken = [Taken("chat", "requests/s", "nginx", value) for value in (90.0, 100.0, 400.0)]
    taken += [Taken("chat", "requests/s", "mooltiproxy", value) for value in (10.0, 25.0, 30.0)]
    ours = results(taken)[1]
    assert (ours.median, ours.ratio_to_nginx) == (25.0, 0.25)


def test_a_figure_that_nginx_lacks_has_no_ratio() -> None:
    assert results([Taken("chat", "requests/s", "direct", 5.0)])[0].ratio_to_nginx is None


def test_the_table_shows_a_line_per_figure_and_a_dash_for_what_was_not_measured() -> None:
    found = results([Taken("start", "start-up ms", "nginx", 20.0)])
    head, line = table(found, ["direct", "nginx", "mooltiproxy"]).splitlines()
    assert head.split()[-3:] == ["mooltiproxy", ":", "nginx"]
    assert line.split() == ["start", "start-up", "ms", "-", "20", "-", "-"]
