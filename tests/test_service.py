"""The HTTP service: jobs in and files out, limits, cancelling, restarts, and its description."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import cv2
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie
from openapi_spec_validator import validate

from vidmatte.batch.manifest import MOVIES
from vidmatte.batch.run import ShotRun
from vidmatte.cli import cli
from vidmatte.cli.serve import _bytes
from vidmatte.errors import OptionError
from vidmatte.option_table import MANIFEST_KEYS
from vidmatte.service import app as apps
from vidmatte.service import queue as queues
from vidmatte.service.app import create_service_app
from vidmatte.service.jobs import OPTION_KEYS
from vidmatte.service.openapi import openapi_document
from vidmatte.service.render import CancelledError
from vidmatte.service.server import Service

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-for-tests-only"
PROMPTS = {
    "version": 2,
    "objects": [{"name": "a", "prompts": [{"points": [[32, 24, 1]]}]}],
}


class FakeRenderer:
    """Writes its shot's name into each output; waits as long as `gate` is closed."""

    shots: ClassVar[list] = []
    gate: ClassVar[dict] = {"open": True, "reason": ""}

    def __init__(self, device):
        pass

    def render(self, shot, results, *, cancelled, watch=None, retries=0):
        self.shots.append(shot)
        run = ShotRun(shot, frames=1, total=3)
        watch(run)
        while not self.gate["open"]:
            if cancelled.wait(0.02):
                raise CancelledError
        if self.gate["reason"]:
            run.state, run.reason = "failed", self.gate["reason"]
            return run
        for spec in shot.request.outputs.specs:
            Path(spec.path).write_text(shot.name)
        run.state, run.frames = "done", 3
        run.record = {"frames": 3, "seconds": 1.0, "model": "compact", "input": str(shot.name)}
        return run

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def fake(monkeypatch):
    class Renderer(FakeRenderer):
        shots: ClassVar[list] = []
        gate: ClassVar[dict] = {"open": True, "reason": ""}

    monkeypatch.setattr(queues, "Renderer", Renderer)
    return Renderer


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_movie(tmp_path_factory.mktemp("c") / "clip.mp4", frames=3, size=(64, 48))


class Client:
    """Plain HTTP requests; bodies that are no bytes are sent as JSON."""

    def __init__(self, port, token=TOKEN):
        self.port, self.token = port, token

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(data) if is_json and data else data

    def create(self, **asked):
        document = {"name": "shot.mp4", "prompts": PROMPTS, **asked}
        return self.ask("POST", "/jobs", document)

    def submit(self, clip, **asked):
        status, job = self.create(**asked)
        assert status == 201, job
        status, job = self.ask("PUT", f"/jobs/{job['id']}/clip", clip.read_bytes())
        assert status == 202, job
        return job["id"]

    def until(self, job_id, *states):
        """Return a job as soon as it is in one of these states."""
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            status, job = self.ask("GET", f"/jobs/{job_id}")
            assert status == 200
            if job["state"] in states:
                return job
            time.sleep(0.02)
        raise AssertionError(f"{job} is not {states}")


@pytest.fixture
def service(tmp_path, fake):
    with Service(tmp_path / "data", token=TOKEN, devices=("auto",), largest_clip=100_000) as found:
        yield found


@pytest.fixture
def client(service):
    return Client(service.port)


def test_a_clip_goes_in_and_files_come_out(client, clip):
    job_id = client.submit(clip, output=["m.mov"], alpha=["a.mkv"], options={"smooth": 0.5})
    job = client.until(job_id, "done")
    assert [file["name"] for file in job["files"]] == ["a.mkv", "m.mov"]
    assert (job["frames"], job["total"], job["error"]) == (3, 3, "")
    status, data = client.ask("GET", job["files"][0]["url"])
    assert (status, data) == (200, b"shot")
    assert client.ask("GET", "/jobs")[1] == {"jobs": [job]}


def test_the_client_s_options_reach_the_shot(client, clip, fake):
    client.until(client.submit(clip, options={"smooth": 0.5, "clip-black": 0.1}), "done")
    options = fake.shots[0].request.options
    assert (options.smooth, options.finish.clip_black) == (0.5, 0.1)
    outputs = [Path(spec.path).name for spec in fake.shots[0].request.outputs.specs]
    assert outputs == ["shot_matte.mov", "shot_alpha.mov"]


def test_masks_are_sent_before_the_clip(client, clip, fake):
    prompts = {"version": 2, "objects": [{"name": "a", "prompts": [{"mask": "masks/m.png"}]}]}
    _, job = client.create(prompts=prompts)
    _, png = cv2.imencode(".png", np.full((48, 64), 255, np.uint8))
    path = f"/jobs/{job['id']}/masks/m.png"
    assert client.ask("PUT", path, png.tobytes())[0] == 200
    assert client.ask("PUT", f"/jobs/{job['id']}/clip", clip.read_bytes())[0] == 202
    client.until(job["id"], "done")
    mask = fake.shots[0].request.prompts.objects["a"][0].mask
    assert mask.read_bytes() == png.tobytes()
    # After the clip, the job is fixed.
    assert client.ask("PUT", path, png.tobytes())[0] == 409


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
def test_nothing_without_the_token(service, client, clip, token):
    job_id = client.submit(clip)
    stranger = Client(service.port, token)
    for method, path in (
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("GET", f"/jobs/{job_id}"),
        ("DELETE", f"/jobs/{job_id}"),
        ("PUT", f"/jobs/{job_id}/clip"),
        ("POST", f"/jobs/{job_id}/cancel"),
        ("GET", f"/jobs/{job_id}/files/shot_matte.mov"),
    ):
        status, answer = stranger.ask(method, path)
        assert status == 401, path
        assert "Authorization: Bearer" in answer["error"]
    assert stranger.ask("GET", "/health")[0] == 200
    assert stranger.ask("GET", "/openapi.json")[1]["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "../x.mp4"}, "name '../x.mp4' is not valid"),
        ({"name": "x.exe"}, "is not valid: give the file name of a movie"),
        ({"name": "list.m3u8"}, "is not valid"),
        ({"output": ["../x.mov"]}, "give a file name without folders"),
        ({"output": ["/etc/x.mov"]}, "give a file name without folders"),
        ({"output": ["s3://bucket/x.mov"]}, "give a file name without folders"),
        ({"output": [".hidden.mov"]}, "give a file name without folders"),
        ({"output": ["..\\x.mov"]}, "give a file name without folders"),
        ({"output": ["x.mp4:over=bg.png"]}, "a background image is not for the service"),
        ({"output": ["x.xyz"]}, "cannot be written with the extension"),
        ({"options": {"weights": "/etc/passwd"}}, "'weights' is not for the service"),
        ({"options": {"matte": "m.mov"}}, "'matte' is not for the service"),
        ({"options": {"device": "cuda:1"}}, "'device' is not for the service"),
        ({"options": {"ocio": "/etc/x"}}, "'ocio' is not for the service"),
        ({"options": {"smoth": 1}}, "did you mean 'smooth'"),
        ({"options": {"smooth": 7}}, "from 0 to 1"),
        ({"options": {"model": "/tmp/model.safetensors"}}, "model '/tmp/model.safetensors' is not"),
        ({"prompts": {"version": 9, "objects": []}}, "is version 9 of the format"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(service, client, tmp_path, asked, message):
    status, answer = client.create(**asked)
    assert status == 422
    assert message in answer["error"]
    # No path of the server, and no trace of the job.
    assert str(tmp_path) not in answer["error"]
    assert client.ask("GET", "/jobs")[1] == {"jobs": []}
    assert [path for path in (tmp_path / "data").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "mask", ["../../secret.png", "/etc/hostname.png", "masks/../../../secret.png"]
)
def test_prompts_cannot_name_files_outside_of_their_job(client, tmp_path, mask):
    (tmp_path / "secret.png").write_bytes(b"x")
    prompts = {"version": 2, "objects": [{"name": "a", "prompts": [{"mask": mask}]}]}
    status, answer = client.create(prompts=prompts)
    assert status == 422
    assert "outside of" in answer["error"]


@pytest.mark.parametrize(
    "name", ["..%2f..%2fjob.json", "%2e%2e", "..\\job.json", "job.json", ".x.mov", "results.jsonl"]
)
def test_only_listed_files_are_sent(client, clip, name):
    job_id = client.submit(clip)
    client.until(job_id, "done")
    status, _ = client.ask("GET", f"/jobs/{job_id}/files/{name}")
    assert status == 404
    _, job = client.create()
    status, _ = client.ask("PUT", f"/jobs/{job['id']}/masks/{quote(name)}", b"x")
    assert status in (404, 422)


def test_bodies_that_are_no_request_are_refused(client):
    for body, status in (
        (b"[]", 400),
        (b"{", 400),
        (b"{}", 400),
        ({"name": 3, "prompts": {}}, 400),
        ({"name": "a.mp4", "prompts": []}, 400),
        ({"name": "a.mp4", "prompts": PROMPTS, "options": []}, 400),
        ({"name": "a.mp4", "prompts": PROMPTS, "output": "a.mov"}, 400),
        ({"name": "a.mp4", "prompts": PROMPTS, "clip": "x"}, 400),
        (b" " * ((16 << 20) + 1), 413),
    ):
        found, answer = client.ask("POST", "/jobs", body)
        assert found == status
        assert set(answer) == {"error"}
    assert client.ask("GET", "/jobs/0123")[0] == 404
    assert client.ask("GET", "/jobs/0123456789abcdef")[0] == 404


def test_a_clip_that_is_too_large_is_refused_whether_it_says_so_or_not(client):
    _, job = client.create()
    path = f"/jobs/{job['id']}/clip"
    status, answer = client.ask("PUT", path, b"x" * 100_001)
    assert (status, answer["error"]) == (413, "clips have at most 100,000 bytes")
    # In pieces, without a declared length.
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.request(
        "PUT",
        path,
        iter([b"x" * 60_000, b"x" * 60_000]),
        {"Authorization": f"Bearer {TOKEN}"},
        encode_chunked=True,
    )
    assert connection.getresponse().status == 413
    connection.close()
    assert client.ask("PUT", path, b"")[0] == 400
    # The job still waits for its clip.
    assert client.ask("GET", f"/jobs/{job['id']}")[1]["state"] == "new"


def test_uploads_leave_room_on_the_disk(client, clip, monkeypatch):
    _, job = client.create()
    monkeypatch.setattr(apps, "_SPARE", 1 << 60)
    for path in ("clip", "masks/m.png"):
        status, answer = client.ask("PUT", f"/jobs/{job['id']}/{path}", b"x")
        assert (status, "the disk of the server is full" in answer["error"]) == (507, True)


def test_a_clip_that_cannot_be_read_fails_its_job(service, client, tmp_path):
    _, job = client.create()
    status, answer = client.ask("PUT", f"/jobs/{job['id']}/clip", b"this is no movie")
    assert status == 422
    assert "clip.mp4" in answer["error"]
    assert str(tmp_path) not in answer["error"]
    _, job = client.ask("GET", f"/jobs/{job['id']}")
    assert (job["state"], job["error"]) == ("failed", answer["error"])


def test_a_failed_render_says_why(client, clip, fake):
    fake.gate["reason"] = "out of memory"
    job = client.until(client.submit(clip), "failed")
    assert (job["error"], job["files"]) == ("out of memory", [])


def test_jobs_wait_for_the_device_in_order_and_can_be_cancelled(client, clip, fake):
    fake.gate["open"] = False
    first, second, third = (client.submit(clip) for _ in range(3))
    running = client.until(first, "running")
    assert (running["frames"], running["total"]) == (1, 3)
    assert client.ask("GET", f"/jobs/{second}")[1]["state"] == "queued"
    assert client.ask("DELETE", f"/jobs/{first}")[0] == 409
    assert client.ask("POST", f"/jobs/{second}/cancel")[1]["state"] == "cancelled"
    assert client.ask("POST", f"/jobs/{first}/cancel")[0] == 202
    assert client.until(first, "cancelled")["files"] == []
    fake.gate["open"] = True
    client.until(third, "done")
    assert client.ask("GET", f"/jobs/{second}")[1]["state"] == "cancelled"
    assert len(fake.shots) == 2
    assert client.ask("DELETE", f"/jobs/{third}")[0] == 204
    assert client.ask("GET", f"/jobs/{third}")[0] == 404


def test_a_full_queue_takes_no_more(tmp_path, fake, clip):
    with Service(tmp_path / "d", token=TOKEN, devices=("auto",), limit=2) as service:
        client = Client(service.port)
        done = client.submit(clip)
        client.until(done, "done")
        jobs = [client.create()[1]["id"] for _ in range(2)]
        status, answer = client.create()
        assert (status, "the queue is full" in answer["error"]) == (429, True)
        client.ask("DELETE", f"/jobs/{jobs[0]}")
        assert client.create()[0] == 201


def test_a_restart_keeps_finished_jobs_and_renders_the_others(tmp_path, fake, clip):
    data = tmp_path / "data"
    with Service(data, token=TOKEN, devices=("auto",)) as service:
        client = Client(service.port)
        done = client.submit(clip, output=["m.mov"])
        before = client.until(done, "done")
        fake.gate["open"] = False
        running, queued = client.submit(clip), client.submit(clip)
        waiting = client.create()[1]["id"]
        client.until(running, "running")
    states = {
        path.parent.name: json.loads(path.read_text())["state"] for path in data.glob("*/job.json")
    }
    assert states == {done: "done", running: "queued", queued: "queued", waiting: "new"}
    fake.gate["open"] = True
    (data / "0123456789abcdef").mkdir()  # a job that was just being created
    with Service(data, token=TOKEN, devices=("auto",)) as service:
        client = Client(service.port)
        assert client.ask("GET", f"/jobs/{done}")[1] == before
        assert client.ask("GET", before["files"][0]["url"])[1] == b"shot"
        assert client.until(running, "done")["files"]
        assert client.until(queued, "done")["files"]
        assert client.ask("PUT", f"/jobs/{waiting}/clip", clip.read_bytes())[0] == 202
    assert not (data / "0123456789abcdef").exists()


def test_two_services_do_not_share_a_folder(service, tmp_path):
    with pytest.raises(OptionError, match="another service uses this folder"):
        Service(tmp_path / "data", token=TOKEN, devices=("auto",))
    with pytest.raises(OptionError, match=f"the service cannot listen at .* port {service.port}"):
        Service(tmp_path / "other", token=TOKEN, devices=("auto",), port=service.port)


def test_the_description_is_valid_and_complete():
    document = openapi_document()
    validate(document)
    app = create_service_app(None, None, token=TOKEN, largest_clip=1)
    served = {
        (re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path), method.lower())
        for route in app.routes
        for method in route.methods - {"HEAD"}
    }
    described = {
        (path, method)
        for path, item in document["paths"].items()
        for method in set(item) - {"parameters"}
    }
    assert served == described
    options = document["components"]["schemas"]["NewJob"]["properties"]["options"]
    assert set(options["properties"]) == set(OPTION_KEYS)


def test_no_option_of_a_client_names_a_file():
    assert set(OPTION_KEYS) <= set(MANIFEST_KEYS)
    assert all(MANIFEST_KEYS[key].info.kind != "path" for key in OPTION_KEYS)
    assert not {"device", "ocio", "prompt_model", "report", "sidecar"} & set(OPTION_KEYS)
    assert ".m3u8" not in MOVIES


def test_answers_are_as_described(client, clip):
    schemas = openapi_document()["components"]["schemas"]
    job = client.until(client.submit(clip), "done")
    jsonschema.validate(job, {**schemas["Job"], "components": {"schemas": schemas}})
    jsonschema.validate(client.ask("GET", "/nothing")[1] or {"error": "x"}, schemas["Error"])


def test_the_client_of_the_documents_brings_the_files(service, clip, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(PROMPTS))
    script = ROOT / "samples" / "service_client.py"
    address = f"http://127.0.0.1:{service.port}"
    words = [address, str(clip), "p.json", "--to", "out", "--interval", "0.05"]
    run = [sys.executable, str(script), *words]
    given = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
    env = {**os.environ, "VIDMATTE_TOKEN": TOKEN}
    done = subprocess.run(run, env=env, check=True, **given)
    assert done.stdout.splitlines()[-2:] == ["out/clip_alpha.mov", "out/clip_matte.mov"]
    assert (tmp_path / "out" / "clip_matte.mov").read_text() == "clip"
    env["VIDMATTE_TOKEN"] = "another token"
    refused = subprocess.run(run, env=env, check=False, **given)
    assert refused.returncode == 1
    assert "send the token of the service" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-upload", "much"], "--max-upload 'much' is not valid"),
        (["--token-file", "none.txt"], "none.txt: cannot be read"),
        (["--token-file", "short.txt"], "needs at least 16 characters"),
    ],
)
def test_the_command_refuses_what_is_not_right(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("short\n")
    result = CliRunner().invoke(cli, ["serve", *words])
    assert result.exit_code == 2
    assert message in result.stderr


def test_sizes_are_read():
    assert [_bytes(text) for text in ("5", "2k", "3MB", "1G")] == [5, 2048, 3 << 20, 1 << 30]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_real_service_mattes_a_real_clip_and_ends_at_ctrl_c(tmp_path, clip):
    process = subprocess.Popen(
        [sys.executable, "-m", "vidmatte", "serve", "--port", "0", "--data", "jobs"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first, second = process.stderr.readline(), process.stderr.readline()
        port = int(re.search(r"127\.0\.0\.1:(\d+)", first)[1])
        client = Client(port, second.removeprefix("Token: ").strip())
        job_id = client.submit(clip, alpha=["a.mkv"], options={"working_size": 128})
        job = client.until(job_id, "done", "failed")
        assert job["state"] == "done", job["error"]
        assert job["summary"]["frames"] == 3
        assert str(tmp_path) not in json.dumps(job)
        _, data = client.ask("GET", job["files"][0]["url"])
        assert data[:4] == b"\x1aE\xdf\xa3"  # Matroska
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Ended; the jobs are kept." in err
        assert "Traceback" not in err
    finally:
        process.kill()
        process.wait()
