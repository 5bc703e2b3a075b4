"""action.yml and the example workflows: what GitHub accepts, and what their steps do when bash runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.ci import github
from tests.fakes import ROOT

ACTION = github.load(ROOT / "action.yml")
STEPS = ACTION["runs"]["steps"]
RUN_STEPS = [step for step in STEPS if "run" in step]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yml"))
STEP_KEYS = {"name", "id", "if", "env", "run", "shell", "working-directory", "uses", "with", "continue-on-error"}
CONTEXTS = {"inputs", "steps", "github", "runner", "env"}  # of a composite action: it has neither secrets nor vars
GITHUB = {"action_path", "event_name", "ref", "repository", "run_id", "run_attempt", "workspace"}
WORKFLOW_KEYS = {"name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"}
JOB_KEYS = {"name", "permissions", "needs", "if", "runs-on", "env", "timeout-minutes", "steps", "outputs", "strategy"}


def by_id(name: str) -> Mapping[str, Any]:
    (found,) = [step for step in STEPS if step.get("id") == name]
    return found


class TestTheAction:
    def test_has_what_a_composite_action_must_have(self) -> None:
        assert set(ACTION) <= {"name", "description", "author", "inputs", "outputs", "runs", "branding"}
        assert set(ACTION["runs"]) == {"using", "steps"} and ACTION["runs"]["using"] == "composite"
        for one in ACTION["inputs"].values():
            assert set(one) <= {"description", "required", "default", "deprecationMessage"} and one["description"]
            assert isinstance(one.get("default", ""), str), "a default is a text: put it in quotation marks"
        for one in ACTION["outputs"].values():
            assert set(one) == {"description", "value"}

    @pytest.mark.parametrize("step", STEPS, ids=lambda step: step["name"])
    def test_a_step_runs_or_uses_and_a_run_step_has_its_shell(self, step: Mapping[str, Any]) -> None:
        assert set(step) <= STEP_KEYS
        assert ("run" in step) != ("uses" in step)
        if "run" in step:
            assert step["shell"] == "bash" and "with" not in step
        else:
            assert re.fullmatch(r"[\w-]+/[\w.-]+@[\w.-]+", step["uses"]) and "shell" not in step

    def test_ids_are_there_once(self) -> None:
        ids = [step["id"] for step in STEPS if "id" in step]
        assert len(set(ids)) == len(ids)

    def test_expressions_name_what_there_is(self) -> None:
        seen: set[str] = set()
        for step in STEPS:
            for name in github.names(step):
                context, _, rest = name.partition(".")
                assert context in CONTEXTS, name
                if context == "inputs":
                    assert rest in ACTION["inputs"], name
                elif context == "steps":
                    self._check_output(rest, seen)
                elif context == "github":
                    assert rest in GITHUB, name
            if "id" in step:
                seen.add(step["id"])
        for name in github.names(ACTION["outputs"]):
            self._check_output(name.removeprefix("steps."), seen)

    def _check_output(self, path: str, seen: set[str]) -> None:
        id_, outputs, name = path.split(".")
        assert outputs == "outputs" and id_ in seen, f"steps.{path}: no step {id_!r} comes before"
        assert re.search(rf'echo "{re.escape(name)}=', by_id(id_)["run"]), f"the step {id_!r} does not write {name!r}"

    def test_every_input_is_used(self) -> None:
        used = {name.removeprefix("inputs.") for name in github.names(STEPS) if name.startswith("inputs.")}
        assert used == set(ACTION["inputs"])

    @pytest.mark.parametrize("step", RUN_STEPS, ids=lambda step: step["name"])
    def test_no_expression_is_pasted_into_a_script(self, step: Mapping[str, Any]) -> None:
        assert "${{" not in step["run"], "what is pasted is code: pass it by env"

    @pytest.mark.parametrize("step", RUN_STEPS, ids=lambda step: step["name"])
    def test_a_script_uses_the_variables_that_its_step_has(self, step: Mapping[str, Any], tmp_path: Path) -> None:
        subprocess.run(["bash", "-n", "-c", step["run"]], check=True)
        own = set(re.findall(r"^\s*(?:for )?(\w+)(?:\+?=| in )", step["run"], re.MULTILINE))
        runners = {"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP", "RANDOM"}
        used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", step["run"]))
        assert used <= own | set(step.get("env", {})) | runners
        assert set(step.get("env", {})) - {"EDGELUT_TOKEN"} <= used, "a variable that nothing reads"

    def test_tokens_are_passed_by_the_environment_alone(self) -> None:
        for step in STEPS:
            for name, value in {**step.get("env", {}), **step.get("with", {})}.items():
                if "token" in str(value):
                    assert name == "EDGELUT_TOKEN"
            assert "TOKEN" not in step.get("run", "").replace("EDGELUT_TOKEN=''", "")

    def test_what_it_installs_is_what_the_packages_offer(self) -> None:
        service = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        client = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        backends = ACTION["inputs"]["backends"]["default"].split(",")
        assert set(backends) <= set(service) and "ci" in client
        (torch,) = {one for name in backends for one in service[name] if one.startswith("torch==")}
        assert f" {torch}\n" in by_id("install")["run"]

    def test_the_guide_describes_every_input_and_output(self) -> None:
        guide = (ROOT / "docs" / "ci.md").read_text()
        missing = [name for name in (*ACTION["inputs"], *ACTION["outputs"]) if f"| `{name}` |" not in guide]
        assert not missing


class TestAnExample:
    @pytest.fixture(params=EXAMPLES, ids=lambda path: path.name)
    def workflow(self, request: pytest.FixtureRequest) -> Any:
        return github.load(request.param)

    def test_is_a_workflow(self, workflow: Any) -> None:
        assert {"on", "jobs"} <= set(workflow) <= WORKFLOW_KEYS
        assert set(workflow["on"]) <= {"push", "pull_request", "schedule", "workflow_dispatch"}
        assert "pull_request_target" not in workflow["on"], "it would run strangers' code with our secrets"
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert set(job) <= JOB_KEYS and job["runs-on"]
            for step in job["steps"]:
                assert set(step) <= STEP_KEYS and ("run" in step) != ("uses" in step)
                assert "${{" not in step.get("run", "")

    def test_gives_the_action_inputs_that_it_has_and_reads_outputs_that_it_gives(self, workflow: Any) -> None:
        (job,) = workflow["jobs"].values()
        (step,) = [step for step in job["steps"] if step.get("uses", "").startswith("OWNER/edgelut@")]
        assert set(step.get("with", {})) <= set(ACTION["inputs"])
        assert all(isinstance(value, str) for value in step.get("with", {}).values())
        read = {name for name in github.names(workflow) if name.startswith("steps.")}
        assert read <= {f"steps.{step.get('id')}.outputs.{name}" for name in ACTION["outputs"]}

    def test_names_what_github_knows(self, workflow: Any) -> None:
        known = {"event_name", "ref", "repository", "run_id", "run_attempt", "workspace"}
        known |= {"event.pull_request.head.repo.full_name"}
        for name in github.names(workflow):
            context, _, rest = name.partition(".")
            assert context in {"github", "secrets", "vars", "steps", "runner"}, name
            if context == "github":
                assert rest in known, name


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runner's folders, with a program `edgelut` that a test writes."""
    for name in [name for name in os.environ if name.startswith(("GITHUB_", "EDGELUT_"))]:
        monkeypatch.delenv(name)
    for name in ("workspace", "temp", "bin"):
        (tmp_path / name).mkdir()
    return tmp_path


def stub(runner: Path, script: str) -> None:
    """Put a program in the place of edgelut: lines of Python that know its options as `options`."""
    head = (
        f"#!{sys.executable}\nimport json, os, signal, sys, time\n"
        "words = sys.argv[2:]\noptions = {name: value for name, value in zip(words, words[1:] + [''])}\n"
        "def said(outcome):\n"
        "    open(options['--json-file'], 'w').write(json.dumps({'outcome': outcome}, separators=(',', ':')))\n"
    )
    file = runner / "bin" / "edgelut"
    file.write_text(head + script)
    file.chmod(0o755)


def run(runner: Path, **inputs: str) -> github.Ended:
    return github.run_action(
        ACTION,
        {name.replace("_", "-"): value for name, value in inputs.items()},
        workspace=runner / "workspace",
        temp=runner / "temp",
        env={"PATH": f"{runner / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"},
        action_path=ROOT,
        without=("install",),
    )


class TestTheStepsByThemselves:
    """With a program in the place of edgelut; tests/ci/test_end_to_end.py has the real one, a service and an agent."""

    @pytest.mark.parametrize(
        ("script", "verdict", "code", "failed"),
        [
            ("said('passed'); sys.exit(0)", "passed", "0", False),
            ("said('regression'); sys.exit(1)", "regression", "1", True),
            ("said('unclear'); sys.exit(2)", "unclear", "2", True),
            ("raise ImportError('a broken installation ends with 1 too')", "unclear", "2", True),
            ("os.kill(os.getpid(), signal.SIGKILL)", "unclear", "2", True),
            ("sys.exit(130)", "unclear", "2", True),
        ],
    )
    def test_every_end_has_its_verdict(self, script: str, verdict: str, code: str, failed: bool, runner: Path) -> None:
        stub(runner, script)
        ended = run(runner)
        assert (ended.outputs["verdict"], ended.outputs["exit-code"], ended.failed) == (verdict, code, failed)
        assert ended.ran == ["Set up Python", "Install edgelut", "Measure and compare", "Upload the reports", "Verdict"]

    def test_what_could_not_be_told_may_pass(self, runner: Path) -> None:
        stub(runner, "said('unclear'); sys.exit(2)")
        ended = run(runner, fail_when_unclear="false")
        assert not ended.failed and ended.outputs["exit-code"] == "2" and "::warning" in ended.printed
        stub(runner, "said('regression'); sys.exit(1)")
        assert run(runner, fail_when_unclear="false").failed

    def test_inputs_are_options_and_the_token_is_none(self, runner: Path) -> None:
        stub(runner, "print(json.dumps([sys.argv[1:], os.environ['EDGELUT_TOKEN']])); said('passed')")
        ended = run(runner, url="https://x", token="s$(id)", config="a b.yaml", allow_no_baseline="true", artifact="")
        argv, token = json.loads(ended.printed.splitlines()[0])
        assert argv[:3] == ["ci", "--config", "a b.yaml"] and argv[-3:] == ["--url", "https://x", "--allow-no-baseline"]
        assert token == "s$(id)" and "s$(id)" not in argv
        assert "Upload the reports" not in ended.ran

    def test_a_working_directory_is_gone_to(self, runner: Path) -> None:
        (runner / "workspace" / "sub").mkdir()
        stub(runner, "print(os.getcwd()); said('passed')")
        assert str(runner / "workspace" / "sub") in run(runner, working_directory="sub").printed

    def test_a_build_that_is_cancelled_hands_it_on_and_is_waited_for(self, runner: Path) -> None:
        stub(
            runner,
            "def stop(*_):\n    time.sleep(0.3)\n    open('cancelled', 'w').close()\n    sys.exit(130)\n"
            "signal.signal(signal.SIGTERM, stop)\nopen('started', 'w').close()\ntime.sleep(60)\n",
        )
        step, workspace, output = by_id("gate"), runner / "workspace", runner / "temp" / "output"
        names = {"LUT_ALLOW": "", "LUT_CONFIG": "c", "LUT_URL": "", "WITH_AGENT": "", "GITHUB_OUTPUT": str(output)}
        path = f"{runner / 'bin'}:{os.environ['PATH']}"
        env = {**os.environ, **names, "RUNNER_TEMP": str(runner / "temp"), "PATH": path}
        with subprocess.Popen(github.script_of(step, runner / "temp"), cwd=workspace, env=env) as process:
            while not (workspace / "started").exists():
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        assert (workspace / "cancelled").exists()
        assert github.outputs_of(output)["verdict"] == "unclear"

    def test_an_agent_is_given_the_address_of_the_configuration_and_is_stopped(self, runner: Path) -> None:
        (runner / "workspace" / "edgelut-ci.yaml").write_text(
            "name: x\nurl: 'https://lut.example.com'\njob: {presets: demo, devices: host}\n"
        )
        stub(
            runner,
            "if sys.argv[1] == 'agent':\n"
            "    def stop(*_):\n        print('stopped', flush=True)\n        sys.exit(0)\n"
            "    signal.signal(signal.SIGTERM, stop)\n"
            "    print(sys.argv[2:], os.environ['EDGELUT_URL'], os.environ['EDGELUT_TOKEN'], '::error::x', flush=True)\n"
            "    open('ready', 'w').close()\n    time.sleep(60)\n"
            "while not os.path.exists('ready'): time.sleep(0.02)\n"
            "print(words, os.environ['EDGELUT_TOKEN'])\nsaid('passed')\n",
        )
        ended = run(runner, agent="true", device="gha", token="submit-it", agent_token="run-it")
        assert not ended.failed and ended.ran[2:5] == [
            "Start an agent on this runner",
            "Measure and compare",
            "Stop the agent",
        ]
        said = "['--name', 'gha', '--device', 'host=gha'] https://lut.example.com run-it ::error::x"
        assert said in ended.printed and "stopped" in ended.printed
        assert "'--wait-for-devices', '180'] submit-it" in ended.printed

    def test_without_an_address_a_service_runs_here(self, runner: Path) -> None:
        stub(
            runner,
            "if sys.argv[1] == 'serve':\n    print(words, 'listens on http://127.0.0.1:4711/', flush=True)\n    time.sleep(60)\n"
            "print(options['--url'], repr(os.environ['EDGELUT_TOKEN']))\nsaid('passed')\n",
        )
        ended = run(runner, agent="true", token="none-of-its-business")
        assert not ended.failed and "http://127.0.0.1:4711 ''" in ended.printed

    def test_a_service_that_does_not_start_is_told(self, runner: Path) -> None:
        stub(runner, "sys.exit('no room')")
        ended = run(runner, agent="true")
        assert ended.failed and "no room" in ended.printed and "did not start" in ended.printed
        assert "Measure and compare" not in ended.ran and "Stop the agent" in ended.ran
