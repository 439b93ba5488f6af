"""The runs of a clip at full quality: the last one, the one before it, and the files written."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

from vidmatte.errors import OptionError
from vidmatte.pipeline.color import output_space
from vidmatte.prompts.objects import clean_name
from vidmatte.read import Video
from vidmatte.report.summary import Summary
from vidmatte.web.edge import Edge
from vidmatte.web.project import ClipInfo, Project
from vidmatte.web.result import Result, file_groups, parts_of
from vidmatte.web.run import Job, Run


class Runs:
    """Starts runs, one at a time, and keeps what they wrote. Thread-safe; close it at the end.

    Attributes:
        last: the run that was started last.
        before: the run before it, whose small mattes are kept to compare.
    """

    def __init__(self, video: Video, clip_info: ClipInfo) -> None:
        self.last: Run | None = None
        self.before: Run | None = None
        self._info = video.info
        self._clip_info = clip_info
        self._marks: Project | None = None
        self._completed: Summary | None = None
        self._results: tuple[Run, list[Result]] | None = None
        self._lock = threading.Lock()

    @property
    def summary(self) -> Summary | None:
        """Summary of the last complete run."""
        last = None if self.last is None else self.last.progress.summary
        return last or self._completed

    @property
    def is_under_way(self) -> bool:
        """Whether a run has not ended yet."""
        return self.last is not None and not self.last.progress.is_over

    def check_idle(self) -> None:
        """Raise OptionError if a run is under way."""
        if self.is_under_way:
            raise OptionError("a run is under way already: wait for it, or cancel it")

    def start(self, job: Job, marks: Project) -> None:
        """Start a run of the marks. Raises OptionError if one is under way."""
        with self._lock:
            self.check_idle()
            if self.last is not None:
                self._completed = self.summary
                self._keep_for_comparison(self.last)
            self._close_results()
            self.last = Run(job)
            # Marks that change later make its mattes those of other marks.
            self._marks = marks

    def _keep_for_comparison(self, run: Run) -> None:
        """Keep the small mattes of a run that ended, if it got to its end."""
        if run.progress.summary is None:
            run.close()
            return
        if self.before is not None:
            self.before.close()
        self.before = run

    def _close_results(self) -> None:
        for result in self._results[1] if self._results is not None else ():
            result.close()
        self._results = None

    def cancel(self) -> None:
        """Stop the run, if there is one."""
        if self.last is not None:
            self.last.cancel()

    def of(self, marks: Project) -> Run | None:
        """Return the last run if these are its marks."""
        return self.last if self._marks == marks else None

    def results(self) -> list[Result]:
        """Return what the last run wrote: a part for each object of each output, in order."""
        with self._lock:
            run = self.last
            if run is None or run.progress.summary is None:
                return []
            if self._results is None or self._results[0] is not run:
                summary = run.progress.summary
                options = run.job.options
                shown = [
                    Result(
                        part,
                        self._clip_info,
                        number=summary.first_frame,
                        is_premultiplied=options.premultiplied,
                        source_color=self._info.color,
                        output_space=output_space(options),
                        windows=self._info.windows,
                    )
                    for part in parts_of(summary)
                ]
                self._results = (run, shown)
            return self._results[1]

    def as_json(self, marks: Project) -> dict[str, Any] | None:
        """Return the state of the last run as the page shows it; None if there is none.

        `marks` are the present ones, which have the ids of the objects.
        """
        run = self.last
        if run is None:
            return None
        answer = run.progress.as_json()
        summary = run.progress.summary
        if summary is None:
            return answer
        edge = Edge.of(run.job.options)
        return answer | {
            "number": run.number,
            "seconds": round(summary.seconds, 1),
            "frames": summary.frames,
            "first_frame": summary.first_frame - summary.first_number,
            "notes": list(summary.notes),
            "outputs": [{"path": str(output.path)} for output in summary.outputs],
            "files": self._files_json(marks),
            "report": None if summary.report is None else str(summary.report),
            "has_before": self.before is not None,
            "edge": asdict(edge),
            "is_plain": edge.is_plain,
        }

    def _files_json(self, marks: Project) -> list[dict[str, Any]]:
        """Return the files to watch, each with its parts by the ids of the objects they show."""
        results = self.results()
        ids = {clean_name(obj.name): obj.id for obj in marks.objects}
        files = []
        for group in file_groups([result.part for result in results]):
            parts = [results[n].part for n in group]
            names = list(dict.fromkeys(part.output.path.name for part in parts))
            files.append(
                {
                    "name": " + ".join(names),
                    "kind": parts[0].output.kind,
                    "parts": [
                        {"index": n, "object": ids.get(part.object_name)}
                        for n, part in zip(group, parts, strict=True)
                    ],
                }
            )
        return files

    def close(self) -> None:
        """Cancel a run that is under way, and close the files and mattes of all."""
        if self.last is not None:
            self.last.close()
        self._close_results()
        if self.before is not None:
            self.before.close()
