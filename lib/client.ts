/**
 * What talks to a daemon: it loads in a tenth of the time that the whole library takes, which a host
 * of one's own needs. `index.ts` has it too.
 */
export {
  CONSISTENCIES,
  POLICIES,
  SCANS,
  isHoardedVersions,
  type Consistency,
  type HoardedVersions,
  type HoardPolicy,
  type Policy,
  type Scan
} from './choices.js'
export { DaemonClient, type CallOptions, type ClientOptions } from './daemon/client.js'
export type { DaemonStatus } from './daemon/protocol.js'
export type { EventType, HostEvent } from './host/events.js'
export { ERROR_CODES, ParcelError, type ErrorCode } from './errors.js'
export { ROLES, type MemberRole } from './format/control-record.js'
export { homeDir } from './home-dir.js'
export type {
  ImagePlace,
  FileInfo,
  ForgetResult,
  ImagesInfo,
  InviteOptions,
  LeaseInfo,
  LossInfo,
  MemberInfo,
  Newcomer,
  OpenInvite,
  ParcelInfo,
  ParcelState,
  PredictionInfo,
  PruneResult,
  ResumeOptions,
  ResumeResult,
  RetentionPolicy,
  ScrubInfo,
  SuspendOptions,
  SuspendResult,
  VaultInfo,
  VerifyResult,
  VersionInfo
} from './info.js'
export type { Change } from './parcel/diff.js'
export type { Progress, TaskEvent } from './progress.js'
export type { LimitsInfo } from './limits/limits.js'
export type { LimitRule } from './limits/rule.js'
export { SOFTWARE, VERSION } from './software.js'
