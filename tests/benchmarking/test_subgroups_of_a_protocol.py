"""Subgroups that a protocol names reach the report of a bench."""

import json

from semivox.benchmarking.bench import bench
from semivox.benchmarking.protocols import jobs_of, read_protocol
from toys import write_toy_dataset

PROTOCOL = """
[bench]
title = "Toys"
data = "{data}"
config = "demo"
held_out = 3

[bench.subgroups]
turned = ["case_03", "case_05"]

[[bench.run]]
method = "supervised"
labelled = 1

[[bench.run]]
method = "mean_teacher"
labelled = 1
"""


def test_subgroups_of_a_protocol_are_in_its_report(tmp_path):
    data = write_toy_dataset(tmp_path / "toys", cases=7, unlabelled=1, shape=(4, 4, 4))
    file = tmp_path / "toys.toml"
    file.write_text(PROTOCOL.format(data=data))
    for job, dice in zip(jobs_of(read_protocol(file), tmp_path / "out"), (0.5, 0.7), strict=True):
        job.folder.mkdir(parents=True)  # as a run would have left it
        rows = [f"case_0{case},1,blob_1,{dice + 0.01 * case}" for case in (3, 4, 5)]
        job.scores[""].write_text("\n".join(["case,label,name,dice", *rows]) + "\n")
        told = {"group": job.label, "method": job.spec.name, "seed": 0}
        job.scores[""].with_suffix(".json").write_text(json.dumps({"prediction": told}))
    (report,) = bench(file, output=tmp_path / "out", device="cpu")
    section = report.read_text().split('id="subgroups"')[1].split("</section>")[0]
    assert '<th scope="row">turned</th><td class="word">mean_teacher</td><td>2</td><td><b>0.740</b>' in section
    assert "+0.200 [+0.200, +0.200]" in section
