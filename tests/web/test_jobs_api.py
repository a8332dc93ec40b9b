import asyncio
import contextlib

from tests.web.client import Client
from zssr_gan.web.log import read_log
from zssr_gan.web.site import Person, Site
from zssr_gan.web.worker import preview_of


def test_jobs_are_listed_stopped_resumed_and_moved(site: Site, client: Client) -> None:
    case = client.post("/api/cases", {"title": "a"}).json["id"]
    first, second = (site.queue.add(case, "me", "enhance", lambda n: ["enhance", f"{n}.png"], "faces") for _ in "ab")
    listed = client.get("/api/jobs").json
    assert [(job["id"], job["position"], job["command"]) for job in listed] == [
        (first.id, 1, "zssr-gan enhance 1.png"),
        (second.id, 2, "zssr-gan enhance 2.png"),
    ]
    assert client.get("/api/cases").json[0]["running"] == 2
    assert client.post(f"/api/jobs/{second.id}/move", {"place": 1}).json["position"] == 1
    assert client.post(f"/api/jobs/{second.id}/move", {"place": 0}).status == 400
    part = site.cases / case / "results" / f"{first.id}_{first.kind}" / "part.png"  # of a run that was interrupted
    part.parent.mkdir(parents=True)
    part.write_bytes(b"png")
    assert client.post(f"/api/jobs/{first.id}/stop").json["state"] == "stopped"
    assert client.post(f"/api/jobs/{first.id}/stop").error == "job 1 has ended already (stopped)."
    assert client.post(f"/api/jobs/{first.id}/resume").json["state"] == "queued"
    acts = [(entry["act"], entry["facts"].get("attempt")) for entry in read_log(site.cases / case)]
    assert acts[-3:] == [("job moved", None), ("job ended", 1), ("job resumed", 2)]
    assert list(read_log(site.cases / case)[-2]["facts"]["files"]) == [f"results/{part.parent.name}/part.png"]
    for number in ("99", "9" * 30, "-1", "x"):
        assert client.post(f"/api/jobs/{number}/stop").status == 404
    assert client.get(f"/api/jobs/{first.id}/preview.png").status == 204
    assert client.get("/api/jobs/99/preview.png").status == 404
    path = preview_of(site.cases, first.id)
    path.parent.mkdir()
    path.write_bytes(b"png")
    assert client.get(f"/api/jobs/{first.id}/preview.png").body == b"png"


def test_an_open_page_is_told_what_changes(site: Site, client: Client) -> None:
    case = client.post("/api/cases", {"title": "a"}).json["id"]

    async def listen() -> list[bytes]:
        mine, others = site.events.listen(lambda _case: True), site.events.listen(lambda _case: False)
        found = [await anext(mine), await anext(others)]
        job = site.queue.add(case, "me", "enhance", lambda _n: ["enhance", "x.png"], "faces")
        found.append(await anext(mine))
        site.queue.stop(job.id)
        found.append(await anext(mine))
        site.events.changed(case)
        found.append(await anext(mine))
        with contextlib.suppress(TimeoutError):
            found.append(await asyncio.wait_for(anext(others), 0.1))
        site.events.close()
        return found

    hello, also, queued, stopped, changed, *rest = asyncio.run(listen())
    assert hello == also == b": hello\n\n"
    assert queued.startswith(b"event: job\ndata: {")
    assert b'"state": "queued"' in queued
    assert b'"state": "stopped"' in stopped
    assert stopped.endswith(b'\n\nevent: case\ndata: {"id": "a"}\n\n')
    assert changed == b'event: case\ndata: {"id": "a"}\n\n'
    assert rest == []


def test_whoever_sees_a_case_is_told_that_it_is_deleted(site: Site, client: Client) -> None:
    client.post("/api/cases", {"title": "a"})
    me = Person("ann", admin=True)

    async def listen() -> bytes:
        page = site.events.listen(lambda case: site.sees(me, case))
        await anext(page)
        gone = await asyncio.to_thread(client.send, "DELETE", "/api/cases/a", [b'{"title": "a"}'])
        assert gone.status == 200
        return await asyncio.wait_for(anext(page), 5)

    assert asyncio.run(listen()) == b'event: case\ndata: {"id": "a"}\n\n'


def test_the_events_of_a_page_end_with_its_session(site: Site, client: Client) -> None:
    client.post("/api/cases", {"title": "a"})
    admitted = [True, False]

    async def listen() -> list[bytes]:
        page = site.events.listen(lambda _case: True, lambda: admitted.pop(0))
        found = [await anext(page)]
        for _ in admitted[:]:
            site.events.changed("a")
        return [*found, *[one async for one in page]]

    assert asyncio.run(listen()) == [b": hello\n\n", b'event: case\ndata: {"id": "a"}\n\n']
