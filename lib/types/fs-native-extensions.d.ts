declare module 'fs-native-extensions' {
  const extensions: {
    /** An exclusive lock of the open file, which ends with it; false: somebody else has it. */
    tryLock(fd: number): boolean
    /** Makes a range a hole. */
    trim(fd: number, offset: number, length: number): Promise<void>
  }
  export default extensions
}
