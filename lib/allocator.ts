/**
 * For processes that handle contents: buffers of a MiB come and go by the thousand, and glibc would give each
 * back to the kernel, which clears it anew, and keep up to eight heaps a core for its threads, with holes in
 * each. Other C libraries do not look at it. What the user has set counts.
 */
export const ALLOCATOR = {
  GLIBC_TUNABLES:
    'glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=67108864:glibc.malloc.arena_max=4'
}
