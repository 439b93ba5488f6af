"""Fork a process with everything imported for each run, so that many can be killed quickly.

Reads one JSON object a line: keyword arguments of a run. Answers with the number of the process
that does it.
"""

import json
import os
import sys

import vidmatte


def run(source, mask, frames, folder, options):
    prompts = [vidmatte.Prompt(frame=frame, mask=mask) for frame in frames] if mask else ()
    vidmatte.matte(
        source,
        prompts,
        output=f"{folder}/c.%04d.png",
        alpha=[f"{folder}/a.mkv", f"{folder}/a.mov"],
        options=vidmatte.MatteOptions(**options),
    )


for line in sys.stdin:
    asked = json.loads(line)
    process = os.fork()
    if not process:
        code = 1
        try:
            run(**asked)
            code = 0
        except vidmatte.VidmatteError as error:
            sys.stderr.write(f"{error}\n")
        finally:
            os._exit(code)
    sys.stdout.write(f"{process}\n")
    sys.stdout.flush()
    _, status = os.waitpid(process, 0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    sys.stdout.flush()
