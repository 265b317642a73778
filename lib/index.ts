export { ERROR_CODES, ParcelError, type ErrorCode } from './errors.js'
export { checkAccelerator, type Check } from './doctor/accelerator.js'
export { examine, type Finding } from './doctor/host.js'
export { ImageProcess, type ImageSpec, type ServerStatus } from './export/image-process.js'
export { ROLES, type MemberRole } from './format/control-record.js'
export { fingerprint } from './keys/words.js'
export { Host, type HostOptions } from './host.js'
export { createHome, homeDir, lockHome, openHome, readHome } from './home.js'
export { LOCKS, type LockKind } from './keys/key-file.js'
export { phraseOf, seedFrom } from './keys/phrase.js'
export { POLICIES, type Policy } from './info.js'
export type {
  ImagePlace,
  FileInfo,
  ImagesInfo,
  InviteOptions,
  LossInfo,
  MemberInfo,
  Newcomer,
  OpenInvite,
  ParcelInfo,
  ParcelState,
  ResumeOptions,
  ResumeResult,
  ScrubInfo,
  SuspendOptions,
  SuspendResult,
  VaultInfo,
  VerifyResult,
  VersionInfo
} from './info.js'
export type { Change } from './parcel/diff.js'
export { setStoreAside } from './rebuild.js'
export { CONSISTENCIES, type Consistency } from './parcel/local-state.js'
export { SCANS, type DirtyMap, type Scan } from './parcel/scan.js'
export { Task, type Progress, type TaskEvent } from './progress.js'
export { Upkeep } from './upkeep.js'
export { Vaults } from './vaults.js'
export { Versions } from './versions.js'
export { SOFTWARE, VERSION } from './software.js'
export { PrivateDht } from './swarm/private-dht.js'
export { runDaemon, type DaemonOptions } from './daemon/daemon.js'
export { DaemonClient, type CallOptions, type ClientOptions } from './daemon/client.js'
export type { DaemonStatus } from './daemon/server.js'
export { MachineProcess } from './vmm/machine-process.js'
