"""S3's answers."""

from __future__ import annotations

from sandbox.fidelity.case import Case, answered, prepare, refused

SOURCE = "recorded: localstack tests/aws/services/s3/*.snapshot.json at 8b9a79f"
NAME = "score-bucket-1"
THIS = {"Bucket": NAME}
EMPTY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # the SHA-256 of no bytes
RULE = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
LIFECYCLE = {"Rules": [{"ID": "a", "Status": "Enabled", "Expiration": {"Days": 7}}]}
DEFAULTS = "documented: S3 user guide, defaults of new buckets since April 2023"

CASES: list[Case] = [
    prepare("s3.create_bucket", THIS),
    answered("s3.create_bucket", "a bucket that is the caller's already (us-east-1)", THIS),
    refused("s3.create_bucket", "LocationConstraint us-east-1", {"Bucket": "score-bucket-3", "CreateBucketConfiguration": {"LocationConstraint": "us-east-1"}}, "InvalidLocationConstraint", "not valid"),
    refused("s3.create_bucket", "a name with capitals and _", {"Bucket": "AB_c"}, "InvalidBucketName"),
    refused("s3.get_bucket_policy", "a bucket without a policy", THIS, "NoSuchBucketPolicy", "does not exist", 404),
    refused("s3.get_bucket_lifecycle_configuration", "a bucket without a lifecycle", THIS, "NoSuchLifecycleConfiguration", "does not exist", 404),
    refused("s3.get_bucket_tagging", "a bucket without tags", THIS, "NoSuchTagSet", "does not exist", 404),
    answered("s3.get_public_access_block", "a new bucket blocks public access", THIS, source=DEFAULTS),
    answered("s3.get_bucket_encryption", "a new bucket encrypts with AES256", THIS, source=DEFAULTS),
    answered("s3.get_bucket_ownership_controls", "the owner of a new bucket owns its objects", THIS, source=DEFAULTS),
    refused("s3.put_bucket_lifecycle_configuration", "a rule without a filter", {**THIS, "LifecycleConfiguration": LIFECYCLE}, "MalformedXML"),
    refused("s3.put_bucket_versioning", "enabled in lower case", {**THIS, "VersioningConfiguration": {"Status": "enabled"}}, "MalformedXML"),
    refused("s3.put_bucket_encryption", "two rules", {**THIS, "ServerSideEncryptionConfiguration": {"Rules": [RULE, RULE]}}, "MalformedXML"),
    refused("s3.put_bucket_policy", "a policy that is not JSON", {**THIS, "Policy": "no policy"}, "MalformedPolicy", "first byte must be"),
    refused("s3.put_bucket_policy", "a policy without a statement", {**THIS, "Policy": "{}"}, "MalformedPolicy", "Missing required field Statement"),
    refused("s3.put_bucket_tagging", "a key that begins with aws:", {**THIS, "Tagging": {"TagSet": [{"Key": "aws:x", "Value": "1"}]}}, "InvalidTag", "System tags cannot"),
    answered("s3.put_object", "a new object", {**THIS, "Key": "k", "Body": b"abc", "ChecksumAlgorithm": "SHA256"}, equals={"ServerSideEncryption": "AES256", "ChecksumType": "FULL_OBJECT"}),
    refused("s3.put_object", "another SHA-256 than the body's", {**THIS, "Key": "k2", "Body": b"abc", "ChecksumSHA256": EMPTY}, "BadDigest", "SHA256 you specified did not match"),
    refused("s3.head_object", "a missing object", {**THIS, "Key": "none"}, "404", "^Not Found$", 404),
    refused("s3.get_object", "a missing object", {**THIS, "Key": "none"}, "NoSuchKey", r"does not exist\.$", 404),
    refused("s3.get_object", "a missing bucket", {"Bucket": "score-bucket-none", "Key": "k"}, "NoSuchBucket", "does not exist", 404),
    refused("s3.get_object", "a range behind the end", {**THIS, "Key": "k", "Range": "bytes=100-200"}, "InvalidRange", "not satisfiable", 416),
    refused("s3.get_object", "another ETag", {**THIS, "Key": "k", "IfMatch": '"x"'}, "PreconditionFailed", "^At least one of the pre", 412),
    refused("s3.put_object", "an object that is there, with If-None-Match: *", {**THIS, "Key": "k", "Body": b"z", "IfNoneMatch": "*"}, "PreconditionFailed", "^At least one of the pre", 412),
    refused("s3.delete_bucket", "a bucket with objects", THIS, "BucketNotEmpty", "not empty", 409),
    refused("s3.list_objects_v2", "an unknown continuation token", {**THIS, "ContinuationToken": "x"}, "InvalidArgument", "continuation token"),
]  # fmt: skip
