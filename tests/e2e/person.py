"""Somebody who uses the program, with a home of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DEADLINE_S = 600


@dataclass
class Person:
    home: Path
    api: str

    def ucloud(self, *words: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "UCLOUD_API": self.api}
        command = [sys.executable, "-m", "ucloud.daemon.main", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE_S, check=False)

    def does(self, *words: str) -> str:
        done = self.ucloud(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def new_key(self, name: str) -> Path:
        """Its private part; the public one is added."""
        file = self.home / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        self.does("key", "add", name, "--file", f"{file}.pub")
        return file

    def ssh(self, vm: str, identity: Path, *command: str) -> "subprocess.CompletedProcess[str]":
        return self.ucloud("vm", "ssh", vm, "--identity", str(identity), "--", *command)
