"""Stands in for NVIDIA's ncu: takes its options, runs a program, prints in its format."""

import csv
import subprocess
import sys

# Those that ncu --help of 2025.3 lists, with whether each takes a value.
OPTIONS = {
    "--csv": False,
    "--page": True,
    "--print-units": True,
    "--profile-from-start": True,
    "--clock-control": True,
    "--kernel-name-base": True,
    "--print-kernel-base": True,
    "--kernel-name": True,
    "--section": True,
}
KERNELS = ("columns_kernel", "image_rows_kernel", "crop_kernel", "crop_gradient_kernel")
COLUMNS = {
    "gpu__time_duration.sum": ("ns", "12,345"),
    "launch__grid_size": ("", "51"),
    "launch__block_size": ("", "512"),
    "launch__registers_per_thread": ("register/thread", "64"),
    "launch__shared_mem_per_block_dynamic": ("byte/block", "71,680"),
    "sm__maximum_warps_per_active_cycle_pct": ("%", "50"),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("%", "24.51"),
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": ("%", "31.10"),
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": ("%", "17.20"),
    "dram__bytes.sum.per_second": ("byte/second", "512,345,678,901.20"),
    "smsp__issue_active.avg.per_cycle_active": ("inst/cycle", "0.42"),
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": ("inst", "1.94"),
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": ("inst", "5.12"),
    "smsp__average_warps_issue_stalled_selected_per_issue_active.ratio": ("inst", "1"),
    "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio": ("inst", "0.70"),
}
GENERAL = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream",
           "Block Size", "Grid Size", "Device", "CC")  # fmt: skip


def program(arguments):
    """Skip the options; unknown ones are an error, as they are to ncu."""
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option not in OPTIONS:
            sys.exit(f"==ERROR== unrecognized option '{option}'. Use --help for further details.")
        if OPTIONS[option]:
            arguments.pop(0)
    return arguments


def main():
    command = program(sys.argv[1:])
    print("==PROF== Connected to process 4242")
    status = subprocess.run(command, check=False).returncode
    print("==PROF== Disconnected from process 4242", flush=True)
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_ALL)
    writer.writerow([*GENERAL, *COLUMNS])
    writer.writerow(["" for _ in GENERAL] + [unit for unit, _ in COLUMNS.values()])
    for number, kernel in enumerate(KERNELS):
        name = f"void fvfast::cuda::{kernel}<float, (bool)1>(int, const float *, T1)"
        general = [number, 4242, "python3", "127.0.0.1", name, 1, 7, "(512, 1, 1)", "(51, 1, 1)",
                   0, "9.0"]  # fmt: skip
        writer.writerow([*general, *(value for _, value in COLUMNS.values())])
    sys.exit(status)


if __name__ == "__main__":
    main()
