"""Proofs run beside the loop and come back to it."""

import asyncio
import threading

from proxy.users.prover import ThreadProver


def test_a_proof_runs_in_a_thread_and_its_result_comes_back_to_the_loop():
    async def scenario():
        prover = ThreadProver(asyncio.get_running_loop())
        done = asyncio.get_running_loop().create_future()
        threads = []

        def work():
            threads.append(threading.current_thread())
            return True

        prover(work, lambda good: done.set_result((good, threading.current_thread())))
        result = await asyncio.wait_for(done, 10)
        prover.close()
        assert result == (True, threading.main_thread())
        assert threads[0] is not threading.main_thread()

    asyncio.run(scenario())


def test_a_proof_that_fails_is_a_no():
    async def scenario():
        prover = ThreadProver(asyncio.get_running_loop())
        done = asyncio.get_running_loop().create_future()
        prover(lambda: 1 // 0, done.set_result)
        assert await asyncio.wait_for(done, 10) is False
        prover.close()

    asyncio.run(scenario())


def test_without_proofs_there_is_no_thread():
    async def scenario():
        ThreadProver(asyncio.get_running_loop()).close()

    before = set(threading.enumerate())  # those of earlier tests may be about to end
    asyncio.run(scenario())
    assert set(threading.enumerate()) <= before
