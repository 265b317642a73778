/**
 * For processes that handle contents: buffers of a MiB come and go by the thousand, and glibc would give each
 * back to the kernel, which clears it anew, and keep up to eight heaps a core for its threads, with holes in
 * each. Other C libraries do not look at it. What the user has set counts.
 */
export const ALLOCATOR = {
  GLIBC_TUNABLES:
    'glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=67108864:glibc.malloc.arena_max=4'
}

/** How Node is started as a daemon: what a suspend makes is short-lived garbage as long as there is room for it. */
export const DAEMON_FLAGS = ['--max-semi-space-size=32']
