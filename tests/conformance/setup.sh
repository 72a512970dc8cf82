#!/usr/bin/env bash
# Builds the two throw-away environments of the conformance tests: LeRobot 0.3.3 (dataset v2.1) and 0.4.4 (dataset v3.0).
#
# Usage: tests/conformance/setup.sh FOLDER [v21|v30]
#
# LeRobot pins torch releases that are not built for every machine; with a newer torch its dataset code works unchanged,
# so the packages are named one by one and lerobot itself is installed without its dependencies. About 2 GB each.
set -euo pipefail

folder=${1:?usage: setup.sh FOLDER [v21|v30]}
wanted=${2:-both}
python=${PYTHON:-python3.11}

common=(torch==2.13.0 jsonlines 'av<16' einops draccus==0.10.0 packaging 'imageio[ffmpeg]' pillow pandas pyarrow termcolor
        deepdiff 'numpy<2.4' opencv-python-headless)

build() {
    local name=$1 lerobot=$2
    shift 2
    [ -x "$folder/$name/bin/python" ] || "$python" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "${common[@]}" "$@"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.22.1 "lerobot==$lerobot"
    echo "built $folder/$name/bin/python (lerobot $lerobot)"
}

if [ "$wanted" = both ] || [ "$wanted" = v21 ]; then
    build v21 0.3.3 'datasets==3.6.0' 'huggingface_hub<0.36'
fi
if [ "$wanted" = both ] || [ "$wanted" = v30 ]; then
    build v30 0.4.4 'datasets>=4,<5' 'huggingface_hub<1' safetensors psutil accelerate
fi
