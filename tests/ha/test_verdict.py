"""What evidence leads to which health, and how long a recovery takes."""

from config.load import accept
from config.units import MonoTime
from ha.events import Fitness
from ha.evidence import Evidence, Look, Seen, Worker
from ha.verdict import Judge

TEXT = """
[ha]
vip = "192.168.8.100/24"
nodes = { a = "192.168.8.4" }
track = [{ name = "gateway", file = "x", weight = 40, rise = 2, fall = 2 }]
"""
HA = accept(TEXT.encode(), "t").ha
UP, DOWN = Worker.SERVING, Worker.GONE


def judged(judge, now, *, whole=False):
    return judge.judge(250, MonoTime(now), peer_is_whole=whole)


def noted(judge, now, workers=(UP,), origins=None, look=None):
    tracks = {"gateway": look or Look(Seen.UNKNOWN)}
    judge.note(Evidence(workers, origins or {}, tracks), MonoTime(now))
    return judged(judge, now)


def test_before_anything_is_known_nobody_can_serve():
    assert judged(Judge(HA), 0).fitness is Fitness.UNFIT
    assert noted(Judge(HA), 0, workers=(Worker.STARTING,)).fitness is Fitness.UNFIT


def test_the_first_worker_that_serves_is_believed_at_once():
    judge = Judge(HA)
    noted(judge, 0, workers=(DOWN,))
    found = noted(judge, 1)
    assert (found.fitness, found.priority, found.reasons) == (Fitness.SERVING, 250, ())


def test_a_death_counts_at_once_and_a_recovery_when_it_has_lasted():
    judge = Judge(HA)
    noted(judge, 0)
    assert noted(judge, 1, workers=(DOWN,)).fitness is Fitness.UNFIT
    assert noted(judge, 2).fitness is Fitness.UNFIT
    assert judge.settles_at() == 3
    assert judged(judge, 3).fitness is Fitness.SERVING


def test_a_hung_worker_is_none():
    judge = Judge(HA)
    noted(judge, 0)
    assert noted(judge, 1, workers=(Worker.HUNG,)).fitness is Fitness.UNFIT


def test_one_of_two_workers_lost_costs_its_weight_if_the_peer_is_whole():
    judge = Judge(HA)
    noted(judge, 0, workers=(UP, DOWN))
    assert judged(judge, 0).priority == 250
    found = judged(judge, 0, whole=True)
    assert (found.priority, found.fitness, found.reasons) == (240, Fitness.SERVING, ("1 of 2 workers: -10",))


def test_origins_make_the_difference_between_listening_and_serving():
    judge = Judge(HA)
    assert noted(judge, 0, origins={"shop": Seen.UNKNOWN}).fitness is Fitness.LISTENING
    assert noted(judge, 1, origins={"shop": Seen.GOOD}).fitness is Fitness.SERVING
    found = noted(judge, 2, origins={"shop": Seen.BAD})
    assert (found.fitness, found.priority, found.reasons) == (Fitness.LISTENING, 220, ("origins of shop: -30",))
    assert noted(judge, 3, origins={"shop": Seen.UNKNOWN}).fitness is Fitness.LISTENING


def test_a_tracked_thing_counts_after_as_many_looks_as_were_asked_for():
    judge = Judge(HA)
    bad = [noted(judge, n, look=Look(Seen.BAD, n)) for n in (1, 2)]
    assert [found.priority for found in bad] == [250, 210]
    assert noted(judge, 3, look=Look(Seen.BAD, 2)).priority == 210
    for n in (4, 5, 6):
        found = noted(judge, n, look=Look(Seen.GOOD, n))
    assert found.priority == 250


def test_the_same_look_is_not_counted_twice():
    judge = Judge(HA)
    for now in range(5):
        found = noted(judge, now, look=Look(Seen.BAD, 1))
    assert found.priority == 250


def test_what_resigns_makes_unfit():
    judge = Judge(accept(TEXT.replace("weight = 40", "resign = true").encode(), "t").ha)
    noted(judge, 0, look=Look(Seen.GOOD, 1))
    assert noted(judge, 1, look=Look(Seen.GOOD, 2)).fitness is Fitness.SERVING
    noted(judge, 2, look=Look(Seen.BAD, 3))
    assert noted(judge, 3, look=Look(Seen.BAD, 4)).fitness is Fitness.UNFIT
