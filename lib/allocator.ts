/**
 * For processes that handle contents: buffers of a MiB come and go by the thousand, and glibc would give each
 * back to the kernel, which clears it anew, and keep a heap for each of some thirty threads, none of which is
 * ever full. Other C libraries do not look at it. What the user has set counts.
 */
export const ALLOCATOR = {
  GLIBC_TUNABLES:
    'glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=67108864:glibc.malloc.arena_max=4'
}
