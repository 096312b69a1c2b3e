"""Holds hob against the real `huggingface_hub`. Run by the ignored test `hf_cache` of hob-hub, which prepares an environment for it:

    hf_cache.py read CACHE REPO COMMIT FILE SHA256      hob wrote the cache: it is read here without a network
    hf_cache.py write CACHE REPO REVISION FILE...       the cache is written here, from the server that HF_ENDPOINT names
    hf_cache.py lock CACHE REPO ETAG                    says whether the lock of a blob can be taken, as `filelock` takes it
    hf_cache.py hold CACHE REPO ETAG                    holds it until a line comes in

Prints what it saw; fails when a library does not find what it should.
"""

import hashlib
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import __version__, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache


def read(cache, repo, commit, file, sha256):
    by_name = Path(hf_hub_download(repo, file, cache_dir=cache, local_files_only=True))
    by_commit = Path(hf_hub_download(repo, file, revision=commit, cache_dir=cache, local_files_only=True))
    assert by_name == by_commit == Path(try_to_load_from_cache(repo, file, cache_dir=cache)), (by_name, by_commit)
    assert hashlib.sha256(by_name.read_bytes()).hexdigest() == sha256
    folder = Path(snapshot_download(repo, cache_dir=cache, local_files_only=True))
    assert by_name == folder / file, folder
    info = scan_cache_dir(cache)
    assert not info.warnings, info.warnings
    (found,) = info.repos
    (revision,) = found.revisions
    assert found.repo_id == repo and revision.commit_hash == commit and revision.refs == {"main"}, found
    (cached,) = revision.files
    print(f"huggingface_hub {__version__} read {by_name.relative_to(cache)}")
    print(f"  blob {cached.blob_path.relative_to(cache)}, inode {by_name.stat().st_ino}, {cached.size_on_disk} bytes")


def write(cache, repo, revision, *files):
    for file in files:
        path = Path(hf_hub_download(repo, file, revision=revision, cache_dir=cache))
        print(f"huggingface_hub {__version__} wrote {path.relative_to(cache)}")
        print(f"  as {os.readlink(path)}, inode {path.stat().st_ino}, {path.stat().st_size} bytes")


def lock_path(cache, repo, etag):
    return Path(cache) / ".locks" / f"models--{repo.replace('/', '--')}" / f"{etag}.lock"


def lock(cache, repo, etag):
    path = lock_path(cache, repo, etag)
    assert path.is_file(), path
    try:
        with FileLock(path, timeout=0.2, mode=0o664):
            print("free")
    except Timeout:
        print("held")


def hold(cache, repo, etag):
    with FileLock(lock_path(cache, repo, etag), mode=0o664):
        print("held", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    {"read": read, "write": write, "lock": lock, "hold": hold}[sys.argv[1]](*sys.argv[2:])
